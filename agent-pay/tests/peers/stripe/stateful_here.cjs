// stripe-stateful-mock on a free port of this machine alone.
const { createExpressApp } = require("stripe-stateful-mock");
const server = createExpressApp().listen(0, "127.0.0.1", () => console.log("PORT", server.address().port));
// Ends when whoever started it does.
process.stdin.resume().on("end", () => process.exit(0));
