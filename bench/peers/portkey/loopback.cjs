// Portkey's start script offers no address to listen on and takes all of them. The benchmark is loopback only.
const net = require("node:net");
const listen = net.Server.prototype.listen;
net.Server.prototype.listen = function (port, ...rest) {
  const numeric = typeof port === "number" || typeof port === "string";
  return numeric ? listen.call(this, Number(port), "127.0.0.1", ...rest.filter((a) => typeof a === "function")) : listen.call(this, port, ...rest);
};
