// The method `ledger` of agent-pay for mppx, as far as the tests need it: orders signed with Ed25519
// (JWS over canonical JSON). The keys are made from the seeds of tests/mpp/market.rs.
import crypto from "node:crypto";
import { Credential, Method, z } from "mppx";

const seeded = (byte) =>
  crypto.createPrivateKey({
    key: Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), Buffer.alloc(32, byte)]),
    format: "der",
    type: "pkcs8",
  });
const BUYER = "agent_buyer";
const key = seeded(2);
const KIND = "agent-pay.mpp-order+jws";

// Keys in the order of their names: all of these are ASCII.
const canonical = (value) => JSON.stringify(value, Object.keys(value).sort());
const encode = (text) => Buffer.from(text).toString("base64url");

export const ledger = Method.from({
  name: "ledger",
  intent: "charge",
  schema: {
    credential: { payload: z.object({ statement: z.string() }) },
    request: z.object({
      amount: z.string(),
      currency: z.string(),
      recipient: z.string(),
      methodDetails: z.object({ decimals: z.number() }),
    }),
  },
});

// An amount as agent-pay writes it: "1.50 USD", two decimals at least.
function amount(request) {
  const { decimals } = request.methodDetails;
  const digits = request.amount.padStart(decimals + 1, "0");
  const whole = digits.slice(0, digits.length - decimals);
  const rest = digits.slice(digits.length - decimals).replace(/0+$/, "").padEnd(2, "0");
  return `${whole}.${rest} ${request.currency.toUpperCase()}`;
}

export function sign(challenge, altered = {}) {
  const header = canonical({ alg: "EdDSA", kid: BUYER, typ: KIND });
  const order = {
    order: "pay",
    challenge: challenge.id,
    buyer: BUYER,
    amount: amount(challenge.request),
    recipient: challenge.request.recipient,
    ...altered,
  };
  const message = `${encode(header)}.${encode(canonical(order))}`;
  return `${message}.${crypto.sign(null, Buffer.from(message), key).toString("base64url")}`;
}

export const client = Method.toClient(ledger, {
  async createCredential({ challenge }) {
    return Credential.serialize({ challenge, payload: { statement: sign(challenge) }, source: BUYER });
  },
});

// Who ordered to pay exactly what a challenge asks.
export function check(credential) {
  const [header, body, signature] = credential.payload.statement.split(".");
  const message = Buffer.from(`${header}.${body}`);
  const isSigned = crypto.verify(null, message, crypto.createPublicKey(key), Buffer.from(signature, "base64url"));
  const order = JSON.parse(Buffer.from(body, "base64url"));
  const { challenge } = credential;
  if (
    !isSigned ||
    order.order !== "pay" ||
    order.challenge !== challenge.id ||
    order.amount !== amount(challenge.request) ||
    order.recipient !== challenge.request.recipient
  )
    throw new Error("the order does not count");
}
