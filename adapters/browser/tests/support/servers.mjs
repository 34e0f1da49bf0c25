// quotad, the application behind an adapter, and the server of the pages from which the browser asks.

import { execFileSync } from "node:child_process";
import { createHash, createHmac, randomUUID, X509Certificate } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, get } from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { freePort, Program } from "./programs.mjs";

const HERE = fileURLToPath(new URL("../..", import.meta.url));
const QUOTAD = process.env.QUOTAD_BIN ?? join(HERE, "../../target/debug/quotad");
const APPLICATION = process.env.BROWSER_APPLICATION ?? join(HERE, "applications/fastapi/serve");
const SECRET = "a secret of the browser's tests that is long enough";

/** Of one site, and of another; `test` is no public suffix of its own, so a site is `example.test`. */
export const HOSTS = { api: "api.example.test", allowed: "app.example.test", foreign: "foreign.test" };

/** What pages are blank, and what the application's page is when nothing forbids its script. */
const BLANK = "<!doctype html><title>page</title>";
const INLINE = `${BLANK}<p>A page.</p><script>document.documentElement.dataset.script = 'ran'</script>`;

/** A folder of the test's own, with a certificate for all hosts. */
export class Folder {
  constructor() {
    this.path = mkdtempSync(join(tmpdir(), "quotad-browser-"));
    this.cert = join(this.path, "cert.pem");
    this.key = join(this.path, "key.pem");
    const names = Object.values(HOSTS).map((host) => `DNS:${host}`);
    const subject = ["-subj", "/CN=quotad tests", "-addext", `subjectAltName=${names.join(",")}`];
    const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"];
    execFileSync("openssl", ["req", "-x509", ...key, ...subject, "-keyout", this.key, "-out", this.cert], {
      stdio: "pipe",
    });
  }

  /** By which the browser trusts this certificate and no other. */
  get fingerprint() {
    const { publicKey } = new X509Certificate(readFileSync(this.cert));
    return createHash("sha256").update(publicKey.export({ type: "spki", format: "der" })).digest("base64");
  }

  remove() {
    rmSync(this.path, { recursive: true });
  }
}

export async function startQuotad(folder) {
  const file = join(folder.path, "quotad.yaml");
  const key = join(folder.path, "token.key");
  writeFileSync(key, SECRET);
  writeFileSync(file, readFileSync(join(HERE, "quotad.yaml"), "utf8").replaceAll("@KEY@", key));
  const program = new Program(QUOTAD, ["--config", file, "--listen", "127.0.0.1:0"]);
  const said = () => program.lines.join("\n");
  await program.ready("quotad is ready", () => /^ready in/m.test(said()));
  program.target = `127.0.0.1:${/gRPC +127\.0\.0\.1:(\d+)/.exec(said())[1]}`;
  return program;
}

/** Any answer at all tells that the application serves. */
export async function startApplication(folder, { target, origins, environment = "production" }) {
  const port = await freePort();
  const program = new Program(APPLICATION, [], {
    PORT: String(port),
    TLS_CERT: folder.cert,
    TLS_KEY: folder.key,
    QUOTAD: target,
    ALLOWED_ORIGINS: origins,
    ENVIRONMENT: environment,
  });
  const question = { host: "127.0.0.1", port, path: "/plain", servername: HOSTS.api, ca: readFileSync(folder.cert) };
  const answered = () =>
    new Promise((resolve) => {
      const request = get({ ...question, agent: false, headers: { host: HOSTS.api } }, (response) => {
        response.resume();
        resolve(true);
      });
      request.on("error", () => resolve(false));
    });
  await program.ready("the application answers", answered);
  program.origin = `https://${HOSTS.api}:${port}`;
  return program;
}

/** Pages without any header of ours: `/` is blank, `/inline` is what the application serves too. */
export async function startPages(folder) {
  const tls = { cert: readFileSync(folder.cert), key: readFileSync(folder.key) };
  const server = createServer(tls, (request, response) => {
    response.setHeader("content-type", "text/html");
    response.end(request.url === "/inline" ? INLINE : BLANK);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  return {
    allowed: `https://${HOSTS.allowed}:${port}`,
    foreign: `https://${HOSTS.foreign}:${port}`,
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}

export function token(user) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: "example-app", sub: user, jti: randomUUID(), iat: now, exp: now + 3600 };
  const parts = [{ alg: "HS256", typ: "JWT" }, claims];
  const signed = parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}
