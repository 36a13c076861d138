// What the official Node SDK sends for the calls our client makes, one JSON line each.
const http = require("http");
const Stripe = require("stripe");
const server = http.createServer((request, response) => {
  let body = "";
  request.on("data", (chunk) => (body += chunk));
  request.on("end", () => {
    const of = (name) => request.headers[name];
    const form = [...new URLSearchParams(body)].sort();
    const key = of("idempotency-key");
    const line = { method: request.method, target: request.url, form, key, version: of("stripe-version") };
    line.authorization = of("authorization");
    console.log(JSON.stringify(line));
    response.setHeader("content-type", "application/json");
    response.end("{}");
  });
});
server.listen(0, "127.0.0.1", async () => {
  const { port } = server.address();
  const s = new Stripe("sk_test_123", { host: "127.0.0.1", port, protocol: "http", maxNetworkRetries: 0 });
  const key = (idempotencyKey) => ({ idempotencyKey });
  const metadata = { agent_pay_id: "a b&c=d[é]" };
  await s.paymentIntents.create(
    { amount: 1999, currency: "usd", capture_method: "manual", payment_method: "pm_1a", customer: "cus_1a",
      transfer_data: { destination: "acct_1a" }, metadata },
    key("k1"),
  );
  await s.paymentIntents.confirm("pi_1a", { off_session: true }, key("k2"));
  await s.paymentIntents.capture("pi_1a", { amount_to_capture: 750 }, key("k3"));
  await s.paymentIntents.cancel("pi_1a", {}, key("k4"));
  await s.paymentIntents.retrieve("pi_1a");
  await s.refunds.create({ payment_intent: "pi_1a", amount: 400, metadata }, key("k5"));
  await s.billing.meterEvents.create(
    { event_name: "tokens", identifier: "k6", payload: { stripe_customer_id: "cus_1a", value: "25" }, timestamp: 1700000000 },
    key("k6"),
  );
  await s.rawRequest(
    "POST",
    "/v1/shared_payment/issued_tokens",
    { payment_method: "pm_1a", seller_details: { network_business_profile: "profile_1a" },
      usage_limits: { currency: "usd", max_amount: 1000, expires_at: 1700003600 } },
    { idempotencyKey: "k7", apiVersion: "2026-04-22.preview" },
  );
  server.close();
});
