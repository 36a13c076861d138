// The official TypeScript client. Each line of input is `{how, url, token, n}` and is answered by a
// line: `pay` makes n payments one after another, `replay` sends one payment n times at once and once
// more, `parallel` makes n different payments at once and sends each again until its answer is neither
// 409 nor 503.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const load = createRequire(import.meta.url);
const { x402Client, x402HTTPClient } = load("@x402/core/client");
const { wrapFetchWithPayment } = load("@x402/fetch");
const { ExactEvmScheme } = load("@x402/evm/exact/client");
const { privateKeyToAccount } = load("viem/accounts");

const key = "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d";
const scheme = { network: "eip155:*", client: new ExactEvmScheme(privateKeyToAccount(key)) };
const paying = (token) => {
  const allowedAssets = [{ network: "eip155:84532", asset: token, maxAmountPerPayment: "5000" }];
  return x402Client.fromConfig({ schemes: [scheme], spendControls: { allowedAssets } });
};
const times = (n, run) => Promise.all(Array.from({ length: n }, run));
const seen = async (answer) => {
  const said = answer.headers.get("payment-response");
  const settled = said ? JSON.parse(Buffer.from(said, "base64")) : {};
  return { status: answer.status, body: await answer.text(), success: settled.success ?? null, transaction: settled.transaction ?? null };
};

async function signed(client, url) {
  const http = new x402HTTPClient(client);
  const unpaid = await fetch(url);
  const required = http.getPaymentRequiredResponse((name) => unpaid.headers.get(name));
  return http.encodePaymentSignatureHeader(await client.createPaymentPayload(required));
}

const ways = {
  async pay(client, url, n) {
    const answers = [];
    const pay = wrapFetchWithPayment(fetch, client);
    for (let i = 0; i < n; i += 1) answers.push(await seen(await pay(url)));
    return answers;
  },
  async replay(client, url, n) {
    const headers = await signed(client, url);
    const answers = await times(n, async () => seen(await fetch(url, { headers })));
    return [...answers, await seen(await fetch(url, { headers }))];
  },
  async parallel(client, url, n) {
    return times(n, async () => {
      const headers = await signed(client, url);
      const statuses = [];
      for (;;) {
        const answer = await fetch(url, { headers });
        statuses.push(answer.status);
        if (![409, 503].includes(answer.status) || statuses.length === 60) return { ...(await seen(answer)), statuses };
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    });
  },
};
for await (const line of createInterface({ input: process.stdin })) {
  const { how, url, token, n } = JSON.parse(line);
  console.log(JSON.stringify(await ways[how](paying(token), url, n)));
}
