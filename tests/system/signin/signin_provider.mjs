// A certified OpenID provider for one gate: `node signin_provider.mjs PORT GATE_ORIGIN`. Anybody may sign in under any name;
// the name's part before the dash is the group: `owners-ann` is in `owners`. Writes `ready` when it listens.
import { Provider } from "oidc-provider";

const [port, gate] = process.argv.slice(2);
const redirect_uris = [`${gate}/login/callback`];
const common = { redirect_uris, response_types: ["code"], grant_types: ["authorization_code"] };

const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    { ...common, client_id: "slmgate-admin", client_secret: "s3cret/with+signs", token_endpoint_auth_method: "client_secret_basic" },
    { ...common, client_id: "slmgate-public", token_endpoint_auth_method: "none" },
  ],
  pkce: { required: () => true },
  claims: { openid: ["sub"], profile: ["name", "groups"] },
  conformIdTokenClaims: false, // the groups are in the ID token, not only at the userinfo endpoint
  cookies: { keys: ["a key of these tests"] },
  findAccount: (ctx, id) => ({
    accountId: id,
    claims: () => ({ sub: id, name: `<b>${id}</b>`, groups: [id.split("-")[0], "everyone"] }),
  }),
});
provider.on("server_error", (ctx, error) => console.error(error));
provider.listen(Number(port), "127.0.0.1", () => console.log("ready"));
