// The official server, with the method `ledger`, on a free port of 127.0.0.1: prints its URL, then a
// line for each payment it takes. It ends with its standard input.
import http from "node:http";
import { Method, Receipt } from "mppx";
import { Mppx } from "mppx/server";
import { check, ledger } from "./ledger.mjs";

let taken = 0;
const method = Method.toServer(ledger, {
  async verify({ credential }) {
    check(credential);
    taken++;
    console.log(`taken ${taken} from ${credential.source}`);
    return Receipt.from({
      method: "ledger",
      status: "success",
      timestamp: new Date().toISOString(),
      reference: `tr_${taken}`,
    });
  },
});
const secretKey = "0123456789abcdef0123456789abcdef";
const server = Mppx.create({ methods: [method], secretKey, realm: "127.0.0.1" });
const price = { amount: "150", currency: "usd", recipient: "sales", methodDetails: { decimals: 6 } };
const serving = http.createServer(async (incoming, outgoing) => {
  const { method, headers, url } = incoming;
  const request = new Request(`http://127.0.0.1${url}`, { method, headers });
  const sold = await server.charge(price)(request);
  const answer = sold.status === 402 ? sold.challenge : sold.withReceipt(Response.json({ cup: "of tea" }));
  outgoing.writeHead(answer.status, Object.fromEntries(answer.headers));
  outgoing.end(await answer.text());
});
serving.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${serving.address().port}/tea`));
process.stdin.resume().on("end", () => process.exit(0));
