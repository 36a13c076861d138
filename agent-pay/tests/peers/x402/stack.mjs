// A chain of its own, the official facilitator on it, and the official resource server: all on
// loopback, on ports the system gives. Writes one line of JSON that says where they are. The keys are
// anvil's public ones, never for money.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const load = createRequire(import.meta.url);
const viem = load("viem");
const { privateKeyToAccount } = load("viem/accounts");
const express = load("express");

const CHAIN = 84532;
const NETWORK = `eip155:${CHAIN}`;
const keys = {
  facilitator: "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
  payer: "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
  payee: "0x5de4111afa1a4b94908f83103eb1f1706367c2e68ca870fc3fb9a804cdab365a",
};
const account = Object.fromEntries(Object.entries(keys).map(([who, key]) => [who, privateKeyToAccount(key)]));

const listening = (app) =>
  new Promise((resolve) => {
    const server = app.listen(0, "127.0.0.1", () => resolve(`http://127.0.0.1:${server.address().port}`));
  });

// The shell ends the chain when this process ends in whatever way, since its input ends then.
const anvil = spawn(
  "sh",
  [
    "-c",
    '"$@" & cat; kill $!',
    "sh",
    `${process.env.NODE_PATH}/.bin/anvil`,
    ...["--host", "127.0.0.1", "--port", "0", "--chain-id", `${CHAIN}`],
  ],
  { stdio: ["pipe", "pipe", "ignore"] },
);
const rpc = await new Promise((resolve) => {
  let said = "";
  anvil.stdout.on("data", (text) => {
    said = (said + text).slice(-4096);
    const port = /Listening on 127\.0\.0\.1:(\d+)/.exec(said)?.[1];
    if (port) resolve(`http://127.0.0.1:${port}`);
  });
});

const chain = viem.defineChain({
  id: CHAIN,
  name: "loopback",
  nativeCurrency: { name: "Ether", symbol: "ETH", decimals: 18 },
  rpcUrls: { default: { http: [rpc] } },
});
const wallet = viem
  .createWalletClient({ account: account.facilitator, chain, transport: viem.http(), pollingInterval: 20 })
  .extend(viem.publicActions);
for (let n = 0; ; n += 1) {
  try {
    await wallet.getBlockNumber();
    break;
  } catch (error) {
    if (n === 200) throw error;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function compiled() {
  const content = readFileSync(new URL("./Token.sol", import.meta.url), "utf8");
  const input = {
    language: "Solidity",
    sources: { "Token.sol": { content } },
    settings: { evmVersion: "paris", outputSelection: { "*": { "*": ["abi", "evm.bytecode.object"] } } },
  };
  const output = JSON.parse(load("solc").compile(JSON.stringify(input)));
  for (const error of output.errors ?? []) console.error(error.formattedMessage);
  const { abi, evm } = output.contracts["Token.sol"].Token;
  return { abi, bytecode: `0x${evm.bytecode.object}` };
}

const { abi, bytecode } = compiled();
const mined = (hash) => wallet.waitForTransactionReceipt({ hash });
const { contractAddress: token } = await mined(await wallet.deployContract({ abi, bytecode }));
const mint = { address: token, abi, functionName: "mint", args: [account.payer.address, 1_000_000n] };
await mined(await wallet.writeContract(mint));

const { x402Facilitator } = load("@x402/core/facilitator");
const { toFacilitatorEvmSigner } = load("@x402/evm");
const { ExactEvmScheme: Settles } = load("@x402/evm/exact/facilitator");
const facilitator = new x402Facilitator().register(
  NETWORK,
  new Settles(
    toFacilitatorEvmSigner({
      ...wallet,
      address: account.facilitator.address,
      // Transactions at once replace one another, and viem waits three minutes for one that is gone.
      waitForTransactionReceipt: (of) => wallet.waitForTransactionReceipt({ ...of, timeout: 5_000 }),
    }),
  ),
);
const desk = express().use(express.json({ limit: "1mb" }));
for (const what of ["verify", "settle"]) {
  desk.post(`/${what}`, async ({ body }, answer) => {
    try {
      answer.json(await facilitator[what](body.paymentPayload, body.paymentRequirements));
    } catch (error) {
      answer.status(500).json({ error: `${error.message}`.slice(0, 200) });
    }
  });
}
desk.get("/supported", (_request, answer) => answer.json(facilitator.getSupported()));
const facilitatorUrl = await listening(desk);

const { paymentMiddleware, x402ResourceServer } = load("@x402/express");
const { HTTPFacilitatorClient } = load("@x402/core/server");
const { ExactEvmScheme: Sells } = load("@x402/evm/exact/server");
const price = { amount: "1000", asset: token, extra: { name: "USD Coin", version: "2" } };
const accepts = [{ scheme: "exact", price, network: NETWORK, payTo: account.payee.address }];
const sells = new x402ResourceServer(new HTTPFacilitatorClient({ url: facilitatorUrl }));
sells.register(NETWORK, new Sells());
let served = 0;
const shop = express();
shop.use(paymentMiddleware({ "GET /weather": { accepts, description: "weather" } }, sells));
shop.get("/weather", (_request, answer) => answer.json({ weather: "fair", served: ++served }));
const shopUrl = await listening(shop);

const told = { rpc, token, facilitator: facilitatorUrl, shop: shopUrl, payer: account.payer.address, payee: account.payee.address };
console.log(JSON.stringify(told));
