// Serves the examples, and what an app has a server for: `/token` answers with a user token. It runs the `waystation`
// command, or the one that WAYSTATION names; tokens are good for TOKEN_TTL, an hour unless given.
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vite";

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

function token(request, response) {
  const { WAYSTATION = "waystation", TOKEN_TTL = "1h" } = process.env;
  const { searchParams } = new URL(request.url, "http://localhost");
  const who = ["--room", searchParams.get("room") ?? "", "--user", searchParams.get("user") ?? ""];
  execFile(WAYSTATION, ["token", ...who, "--publish", "--play", "--ttl", TOKEN_TTL], (error, stdout, stderr) => {
    response.statusCode = error === null ? 200 : 500;
    response.end(error === null ? stdout.trim() : stderr || error.message);
  });
}

export default defineConfig({
  root: at("."),
  // An app gets the package from its node_modules; here it is made as it is asked for.
  resolve: { alias: { "@waystation/client": at("../src/sdk/index.ts") } },
  plugins: [{ name: "token", configureServer: ({ middlewares }) => { middlewares.use("/token", token); } }],
  server: { host: "127.0.0.1", fs: { allow: [at("..")] } },
});
