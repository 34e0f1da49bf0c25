/** The example in a cluster of four workers, over real connections, on one quotad. */

import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";

import {
  Answer,
  ask as askAt,
  eventually,
  folder,
  freePort,
  ORIGIN,
  PACKAGE,
  pause,
  Program,
  Quotad,
  Socket,
} from "./support.js";

const EXAMPLE = join(PACKAGE, "example");
const TTL_MS = 6_000;
const ACCOUNT = JSON.stringify({ email: "ann@example.com", password: "secret", full_name: "Ann O'Brien" });

async function startQuotad(): Promise<Quotad> {
  const text = readFileSync(join(EXAMPLE, "quotad.yaml"), "utf8");
  return new Quotad(folder(), text.replace("127.0.0.1:50051", "127.0.0.1:0")).start();
}

class Cluster {
  private constructor(
    readonly port: number,
    private readonly program: Program,
    readonly workers: readonly number[],
  ) {}

  static async start(quotad: Quotad): Promise<Cluster> {
    const port = await freePort();
    const env = {
      QUOTAD: quotad.target,
      TOKEN_KEY: join(quotad.folder, "data", "token.key"),
      ALLOWED_ORIGINS: ORIGIN,
      ENVIRONMENT: "production",
      QUOTAD_DEADLINE_MS: "2000",
      PORT: String(port),
      WORKERS: "4",
    };
    const program = new Program(process.execPath, [join(EXAMPLE, "app.mjs")], env);
    await program.says(/(worker \d+ listens[^]*){4}/);
    const workers = [...program.output.matchAll(/worker (\d+) listens/g)].map(([, pid]) => Number(pid));
    return new Cluster(port, program, workers);
  }

  /** As when the machine goes: nobody says goodbye. */
  async kill(): Promise<void> {
    const alive = this.workers.filter((pid) => existsSync(`/proc/${pid}`));
    for (const pid of alive) process.kill(pid, "SIGSTOP");
    for (const pid of alive) process.kill(pid, "SIGKILL");
    await this.program.stop();
  }

  async stop(): Promise<void> {
    if (this.program.process.exitCode === null && this.program.process.signalCode === null) await this.kill();
  }

  ask(method: string, path: string, headers: Record<string, string> = {}, body?: string): Promise<Answer> {
    const json: Record<string, string> = body === undefined ? {} : { "content-type": "application/json" };
    return askAt(this.port, method, `/api/v1${path}`, { headers: { origin: ORIGIN, ...json, ...headers }, body });
  }

  open(path: string, token: string, origin = ORIGIN): Promise<Socket> {
    return Socket.open(this.port, `/api/v1/ws/${path}?token=${token}`, { origin });
  }
}

function accessToken(quotad: Quotad, user: string): string {
  const now = Math.floor(Date.now() / 1_000);
  const claims = { iss: "example-app", sub: user, jti: randomUUID(), iat: now, exp: now + 3_600, type: "access" };
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString("base64url");
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  const key = readFileSync(join(quotad.folder, "data", "token.key"), "utf8").replace(/\n$/, "");
  return `${signed}.${createHmac("sha256", key).update(signed).digest("base64url")}`;
}

const many = <Value>(count: number, make: (number: number) => Promise<Value>): Promise<Value[]> =>
  Promise.all(Array.from({ length: count }, (_, number) => make(number)));

function counts(values: readonly number[]): Record<number, number> {
  const seen: Record<number, number> = {};
  for (const value of values) seen[value] = (seen[value] ?? 0) + 1;
  return seen;
}

let quotad: Quotad;
let app: Cluster;
before(async () => {
  quotad = await startQuotad();
  app = await Cluster.start(quotad);
});
after(async () => {
  await app.stop();
  await quotad.stop();
});

/** Milliseconds until a socket opens. */
async function opensWithin(token: string, ms: number): Promise<number> {
  const from = performance.now();
  await eventually(async () => {
    const socket = await app.open("echo", token);
    if (socket.status === 101) socket.vanish();
    return socket.status === 101;
  }, ms);
  return performance.now() - from;
}

test("exactly 10 of 24 mixed auth calls of 4 workers pass", async () => {
  const paths = ["signup", "login", "forgot-password", "RESET-password"];
  const answers = await many(24, (number) => app.ask("POST", `/auth/${paths[number % 4]}`, {}, ACCOUNT));
  assert.deepEqual(counts(answers.map(({ status }) => status)), { 200: 10, 429: 14 });
  for (const answer of answers) {
    assert.equal(answer.one("x-frame-options"), "DENY");
    assert.equal(answer.one("access-control-allow-origin"), ORIGIN);
    assert.deepEqual([answer.all("server"), answer.all("x-powered-by")], [[], []]);
    if (answer.status === 429) {
      assert.equal(answer.json().code, "RATE_LIMIT_EXCEEDED");
      const wait = Number(answer.one("retry-after"));
      assert.ok(wait >= 1 && wait <= 60);
    } else if (answer.json().access_token !== undefined) {
      const set = answer.one("set-cookie");
      assert.ok(set.startsWith("__Secure-refresh_token="));
      assert.ok(set.endsWith("; Path=/api/v1/auth; HttpOnly; Secure; SameSite=Strict"));
    }
  }
});

test("30 AI calls a minute pass for each user", async () => {
  const paths = ["transcribe", "translate", "speak"];
  const text = JSON.stringify({ text: "hello" });
  for (const user of ["ann", "bob"]) {
    const headers = { authorization: `Bearer ${accessToken(quotad, user)}`, "x-user-id": "somebody else" };
    const answers = await many(40, (number) => app.ask("POST", `/ai/${paths[number % 3]}`, headers, text));
    assert.deepEqual(counts(answers.map(({ status }) => status)), { 200: 30, 429: 10 });
    assert.ok(answers.every((answer) => answer.status === 429 || answer.json().user === user));
  }
  assert.equal((await app.ask("POST", "/ai/speak", {}, text)).status, 401);
  const broken = await app.ask("GET", "/broken");
  assert.deepEqual([broken.status, broken.one("x-frame-options")], [500, "DENY"]);
  assert.equal(broken.one("access-control-allow-origin"), ORIGIN);
});

test("the sixth socket of a user is refused and one that leaves makes room", async () => {
  const token = accessToken(quotad, "carol");
  const sockets = await many(5, (number) => app.open(number < 4 ? "captions" : "echo", token));
  assert.deepEqual(counts(sockets.map(({ status }) => status)), { 101: 5 });
  assert.equal((await app.open("captions", token)).status, 429);
  sockets[4]!.client.send("hello");
  await eventually(() => sockets[4]!.messages.includes("hello"));
  // A peer that vanishes without a word, of a handler that never reads.
  sockets[0]!.vanish();
  await opensWithin(token, 3_000);
  assert.equal((await app.open("captions", accessToken(quotad, "dora"), "https://evil.example")).status, 403);
  for (const socket of sockets) socket.close();
});

test("kill -9 of all workers frees their sockets within one TTL", async () => {
  const token = accessToken(quotad, "erin");
  const doomed = await Cluster.start(quotad);
  const sockets = await many(5, () => doomed.open("captions", token));
  assert.deepEqual(counts(sockets.map(({ status }) => status)), { 101: 5 });
  // Kept alive by renewals for longer than a TTL.
  await pause(TTL_MS + 1_000); // what is shown is that nothing happens
  assert.equal((await app.open("captions", token)).status, 429);
  await doomed.kill();
  assert.ok((await opensWithin(token, TTL_MS + 1_000)) <= TTL_MS + 500);
});

test("kill -9 of one worker of a cluster frees its sockets, and the others keep theirs", async () => {
  const token = accessToken(quotad, "gina");
  const other = await Cluster.start(quotad);
  const sockets = await many(5, () => other.open("captions", token));
  process.kill(other.workers[0]!, "SIGKILL");
  const lost = (): number => sockets.filter(({ code }) => code !== undefined).length;
  await eventually(() => lost() > 0);
  await opensWithin(token, TTL_MS + 1_000);
  assert.ok(lost() >= 1 && lost() < 5, `round robin gives each worker one at least: ${lost()}`);
  await other.stop();
});

test("a token that logs out is refused everywhere and its sockets and streams end", async () => {
  const token = accessToken(quotad, "finn");
  const headers = { authorization: `Bearer ${token}` };
  const sockets = await many(4, (number) => app.open(number % 2 ? "captions" : "echo", token));
  let seen = "";
  const onData = (text: string): void => void (seen = text);
  const stream = askAt(app.port, "GET", "/api/v1/events", { headers, onData });
  await eventually(() => seen.startsWith("data: "));
  const answer = await app.ask("POST", "/auth/logout", headers);
  assert.equal(answer.status, 200);
  assert.ok(answer.one("set-cookie").startsWith("__Secure-refresh_token=; Max-Age=0; Path=/api/v1/auth;"));
  assert.equal((await stream).isCut, false);
  assert.equal((await app.ask("POST", "/ai/speak", headers, "{}")).status, 401);
  assert.equal((await app.open("captions", token)).status, 401);
  for (const socket of sockets) assert.equal(await socket.closed(), 4401);
});

test("workers outlive a stall and a restart of quotad under load", async () => {
  const own = await startQuotad();
  const served = await Cluster.start(own);
  // Without a token 401 is the service's answer, 503 ours.
  const call = async (): Promise<number> => {
    const answer = await served.ask("POST", "/ai/speak");
    assert.equal(answer.one("x-frame-options"), "DENY");
    return answer.status;
  };
  const back = async (): Promise<void> => {
    // Two seconds for the promise, one for a busy machine.
    await eventually(async () => (await many(20, call)).every((status) => status === 401), 3_000);
  };
  assert.deepEqual(counts(await many(20, call)), { 401: 20 });
  await own.stall();
  const timed = async (): Promise<number> => {
    const from = performance.now();
    assert.equal(await call(), 503);
    return performance.now() - from;
  };
  // Until the breakers of all workers are open.
  for (let round = 0; round < 3; round += 1) await many(20, timed);
  const waits: number[] = [];
  for (let round = 0; round < 5; round += 1) waits.push(...(await many(20, timed)));
  // The deadline is 2 s. One call a worker and second tries; the others do not wait.
  assert.ok(waits.filter((wait) => wait > 1_000).length <= 4 * 5 * 2);
  own.goOn();
  await back();
  await own.stop();
  assert.deepEqual(counts(await many(20, call)), { 503: 20 });
  // Local: two a process, of four. Which worker serves a request is the cluster's choice, so many are sent.
  const login = async (): Promise<number> => (await served.ask("POST", "/auth/login", {}, ACCOUNT)).status;
  const logins: number[] = [];
  await eventually(async () => {
    logins.push(...(await many(24, login)));
    return counts(logins)[200] === 8;
  });
  logins.push(...(await many(48, login)));
  assert.equal(counts(logins)[200], 8);
  assert.deepEqual(new Set(logins), new Set([200, 429]));
  await own.start();
  await back();
  await served.stop();
  await own.stop();
});
