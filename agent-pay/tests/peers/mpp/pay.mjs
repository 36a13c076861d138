// The official client pays a server at process.argv[2] and prints what it saw as one line of JSON.
import { Challenge, Credential, Receipt } from "mppx";
import { Mppx } from "mppx/client";
import { client, sign } from "./ledger.mjs";

const url = process.argv[2];
const wallet = Mppx.create({ methods: [client], polyfill: false });
const priced = await fetch(url);
const paid = await wallet.fetch(url);
const seen = {
  priced: [priced.status, priced.headers.get("cache-control"), (await priced.json()).type],
  paid: [paid.status, await paid.text(), paid.headers.get("cache-control")],
  receipt: Receipt.deserialize(paid.headers.get("payment-receipt")),
};
// With a body, whose digest the offer binds.
const posted = await wallet.fetch(url, { method: "POST", body: '{"cups":2}' });
seen.posted = [posted.status, await posted.text()];
// One credential ten times at once, then once more.
const challenge = Challenge.fromResponse(await fetch(url));
const authorization = Credential.serialize({ challenge, payload: { statement: sign(challenge) } });
const again = () => fetch(url, { headers: { authorization } });
const copies = await Promise.all(Array.from({ length: 10 }, async () => (await again()).status));
seen.copies = copies;
seen.later = [(await again()).status, await (await again()).text()];
// An altered amount, signed as altered.
const altered = structuredClone(Challenge.fromResponse(await fetch(url)));
altered.request.amount = "1";
const cheap = Credential.serialize({ challenge: altered, payload: { statement: sign(altered) } });
const refused = await fetch(url, { headers: { authorization: cheap } });
seen.altered = [refused.status, (await refused.json()).type];
console.log(JSON.stringify(seen));
