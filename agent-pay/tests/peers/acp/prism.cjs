// A Prism proxy on a free port of this machine: what passes is compared with a document of the protocol, and what
// differs is named in the header `sl-violations`. Arguments: the document, where requests go.
const net = require("net");
const path = require("path");
const [document, upstream] = process.argv.slice(2);
const free = net.createServer().listen(0, "127.0.0.1", () => {
  const { port } = free.address();
  free.close(() => {
    process.argv.splice(2, 2, "proxy", "-h", "127.0.0.1", "-p", String(port), document, upstream);
    process.stdout.write = () => true;
    require(path.join(path.dirname(require.resolve("@stoplight/prism-cli/package.json")), "dist/index.js"));
    const wait = () => {
      const socket = net.connect(port, "127.0.0.1");
      socket.on("connect", () => (socket.destroy(), require("fs").writeSync(1, `PORT ${port}\n`)));
      socket.on("error", () => setTimeout(wait, 100));
    };
    wait();
  });
});
// Ends when whoever started it does.
process.stdin.resume().on("end", () => process.exit(0));
