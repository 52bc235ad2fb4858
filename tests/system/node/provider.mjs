// A certified OpenID provider (npm oidc-provider) for the tests: JWT and opaque access tokens by client credentials,
// introspection, revocation, and keys that are turned round by POST /test/keys {"keys": ["b", "a"]}: the first one signs.
// Arguments: the port. Prints "ready" once it listens.
import http from "node:http";
import { generateKeyPairSync } from "node:crypto";
import { Provider } from "oidc-provider";

const port = Number(process.argv[2]);
const issuer = `http://127.0.0.1:${port}`;
const held = new Map();
const asked = {};

class Adapter {
  constructor(name) {
    this.name = name;
  }
  key(id) {
    return `${this.name}:${id}`;
  }
  async upsert(id, payload) {
    held.set(this.key(id), payload);
  }
  async find(id) {
    return held.get(this.key(id));
  }
  async findByUid() {}
  async findByUserCode() {}
  async destroy(id) {
    held.delete(this.key(id));
  }
  async consume() {}
  async revokeByGrantId() {}
}

const pairs = {};
function jwk(name) {
  if (!pairs[name]) {
    const made =
      name.startsWith("e") ? generateKeyPairSync("ec", { namedCurve: "P-256" }) : generateKeyPairSync("rsa", { modulusLength: 2048 });
    pairs[name] = { ...made.privateKey.export({ format: "jwk" }), kid: name, use: "sig", alg: name.startsWith("e") ? "ES256" : "RS256" };
  }
  return pairs[name];
}

const server = (format, ttl) => ({
  scope: "chat",
  audience: "slmgate",
  accessTokenFormat: format,
  accessTokenTTL: ttl,
  jwt: { sign: { alg: "RS256" } },
});
const resources = {
  "urn:test:jwt": server("jwt", 600),
  "urn:test:short": server("jwt", 4),
  "urn:test:opaque": server("opaque", 600),
  "urn:test:elsewhere": { ...server("jwt", 600), audience: "another" },
};

function make(keys) {
  const provider = new Provider(issuer, {
    adapter: Adapter,
    jwks: { keys: keys.map(jwk) },
    clients: ["bot", "stranger"].map((id) => ({
      client_id: id,
      client_secret: `secret-of-${id}-0123456789`,
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
    })).concat([
      {
        client_id: "slmgate",
        client_secret: "secret-of-slmgate+/=-0123456789",
        grant_types: [],
        redirect_uris: [],
        response_types: [],
      },
    ]),
    features: {
      clientCredentials: { enabled: true },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: { enabled: true, allowedPolicy: () => true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        defaultResource: () => "urn:test:jwt",
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => resources[resource],
      },
    },
    extraTokenClaims: (ctx, token) => ({ realm: { groups: token.clientId === "bot" ? ["ml-team", "all"] : ["all"] }, org: "acme" }),
  });
  return provider.callback();
}

let callback = make(["a"]);
http
  .createServer((request, response) => {
    const path = request.url.split("?")[0];
    if (path === "/test/asked") {
      response.end(JSON.stringify(asked));
    } else if (path === "/test/keys") {
      let body = "";
      request.on("data", (piece) => (body += piece));
      request.on("end", () => {
        callback = make(JSON.parse(body).keys);
        response.end("{}");
      });
    } else {
      asked[path] = (asked[path] ?? 0) + 1;
      callback(request, response);
    }
  })
  .listen(port, "127.0.0.1", () => console.log("ready"));
