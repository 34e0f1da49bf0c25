/** A real quotad, a real Redis, tokens, and clients that see what is on the wire. */

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createHmac, randomUUID } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import type { IncomingMessage, Server } from "node:http";
import { connect, createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

import { WebSocket } from "ws";

import type { Options } from "quotad";
import { Shield } from "quotad";

export const PACKAGE = fileURLToPath(new URL("..", import.meta.url));
export const ROOT = fileURLToPath(new URL("../../..", import.meta.url));
export const CONTRACT = join(ROOT, "adapters", "contract");
export const ORIGIN = "https://app.example.com";
export const BINARY = process.env["QUOTAD_BIN"] ?? join(ROOT, "target", "debug", "quotad");
const REDIS = process.env["QUOTAD_REDIS7"] ?? "redis-server";
const SECRET = "a secret of the contract that is long enough";
/** A machine that builds four things at once starts nothing quickly. */
const START_MS = 60_000;

/** Waits for a condition; fails when it does not come. */
export async function eventually(condition: () => boolean | Promise<boolean>, ms = 30_000): Promise<void> {
  const end = Date.now() + ms;
  while (!(await condition())) {
    assert.ok(Date.now() < end, "it did not come to that in time");
    await pause(10); // between two looks
  }
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export function folder(): string {
  const path = mkdtempSync(join(tmpdir(), "quotad-node-"));
  process.once("exit", () => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A program that says in a line of its output that it is ready. */
export class Program {
  output = "";
  readonly process: ChildProcess;
  private readonly ended: Promise<void>;

  constructor(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}, cwd?: string) {
    this.process = spawn(command, args, { env: { ...process.env, ...env }, cwd, stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [this.process.stdout!, this.process.stderr!]) {
      stream.setEncoding("utf8").on("data", (text: string) => (this.output += text));
    }
    this.ended = new Promise((resolve) => this.process.once("exit", () => resolve()));
    this.process.once("error", (error) => (this.output += String(error)));
    const kill = (): void => void this.process.kill("SIGKILL");
    process.once("exit", kill);
    void this.ended.then(() => process.removeListener("exit", kill));
  }

  async says(pattern: RegExp): Promise<this> {
    const end = Date.now() + START_MS;
    while (!pattern.test(this.output)) {
      assert.ok(Date.now() < end && this.process.exitCode === null, `no ${pattern} in:\n${this.output}`);
      await pause(10); // between two looks
    }
    return this;
  }

  /** Returns when every thread stands still. */
  async stall(): Promise<void> {
    this.process.kill("SIGSTOP");
    const tasks = `/proc/${this.process.pid}/task`;
    const isStopped = (task: string): boolean =>
      readFileSync(`${tasks}/${task}/stat`, "utf8").split(") ").at(-1)!.startsWith("T");
    await eventually(() => readdirSync(tasks).every(isStopped));
  }

  goOn(): void {
    this.process.kill("SIGCONT");
  }

  async stop(): Promise<void> {
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill("SIGKILL");
      await this.ended;
    }
  }
}

/** The real service; a second `start` keeps its port. */
export class Quotad {
  port = 0;
  program: Program | undefined;

  constructor(
    readonly folder: string,
    private readonly config: string,
  ) {}

  async start(): Promise<this> {
    const file = join(this.folder, "quotad.yaml");
    writeFileSync(file, this.config);
    this.program = new Program(BINARY, ["--config", file, "--listen", `127.0.0.1:${this.port}`]);
    await this.program.says(/^ready in/m);
    this.port = Number(/gRPC +127\.0\.0\.1:(\d+)/.exec(this.program.output)![1]);
    return this;
  }

  get target(): string {
    return `127.0.0.1:${this.port}`;
  }

  stall(): Promise<void> {
    return this.program!.stall();
  }

  goOn(): void {
    this.program!.goOn();
  }

  async stop(): Promise<void> {
    await this.program?.stop();
  }
}

/** A quotad with the contract's policies, whose every worker decides exactly. */
export async function running(store = "memory:", change: (config: string) => string = (text) => text): Promise<Quotad> {
  const where = folder();
  writeFileSync(join(where, "token.key"), SECRET);
  let text = readFileSync(join(CONTRACT, "quotad.yaml"), "utf8");
  // A busy machine must be no outage: these tests are not about 5 ms.
  if (store !== "memory:") text = text.replace('"@STORE@"', '"@STORE@", timeout: 5s');
  text = change(text.replaceAll("@STORE@", store).replaceAll("@KEY@", join(where, "token.key")));
  const quotad = await new Quotad(where, text).start();
  for (let exact = 0; exact < 8; exact += 1) {
    // Each shield has a connection of its own, and connections go to the workers in turn.
    await eventually(async () => {
      const shield = shieldOn(quotad.target);
      const decision = await shield.outside().peek("closed", { entries: { ip: "127.0.0.1" } });
      await shield.close();
      return decision.mode === "exact";
    });
  }
  return quotad;
}

/** Debian's redis-server on a free port, without files. */
export class Redis {
  private constructor(
    readonly port: number,
    private readonly program: Program,
  ) {}

  static async start(port?: number): Promise<Redis> {
    const at = port ?? (await freePort());
    const args = ["--port", String(at), "--save", "", "--appendonly", "no", "--dir", folder()];
    const program = await new Program(REDIS, args).says(/Ready to accept connections/);
    return new Redis(at, program);
  }

  get url(): string {
    return `redis://127.0.0.1:${this.port}`;
  }

  command(...words: string[]): Promise<string> {
    return new Promise((resolve, reject) => {
      const client = connect(this.port, "127.0.0.1").on("error", reject);
      client.once("data", (answer) => {
        client.destroy();
        resolve(answer.toString());
      });
      client.write(`*${words.length}\r\n${words.map((word) => `$${word.length}\r\n${word}\r\n`).join("")}`);
    });
  }

  stop(): Promise<void> {
    return this.program.stop();
  }
}

export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** A shield that waits long: a busy machine is no outage. */
export function shieldOn(target: string, options: Options = {}): Shield {
  return new Shield(target, { environment: "production", origins: [ORIGIN], deadlineMs: 10_000, ...options });
}

/** A token of the contract's issuer. */
export function token(user: string, claims: Record<string, unknown> = {}): string {
  const now = Math.floor(Date.now() / 1_000);
  const payload = { iss: "example-app", sub: user, jti: randomUUID(), iat: now, exp: now + 3_600, ...claims };
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString("base64url");
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(payload)}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

export function bearer(user: string, claims: Record<string, unknown> = {}): Record<string, string> {
  return { authorization: `Bearer ${token(user, claims)}` };
}

export const someone = (): string => `user-${randomUUID()}`;

let addresses = 0;
/** A client that no other test has been. */
export function address(): string {
  addresses += 1;
  return `198.51.${Math.floor(addresses / 250)}.${(addresses % 250) + 1}`;
}

/** A response as it came, header by header. */
export class Answer {
  constructor(
    readonly status: number,
    readonly headers: readonly (readonly [string, string])[],
    readonly body: string,
    /** Whether it broke off. */
    readonly isCut = false,
  ) {}

  all(name: string): string[] {
    return this.headers.filter(([other]) => other === name).map(([, value]) => value);
  }

  /** The one value of a header. */
  one(name: string): string {
    const values = this.all(name);
    assert.equal(values.length, 1, `${name}: ${JSON.stringify(values)} in ${this.status} ${this.body}`);
    return values[0]!;
  }

  // eslint-disable-next-line @typescript-eslint/no-explicit-any
  json(): any {
    return JSON.parse(this.body);
  }
}

export interface Asked {
  headers?: Record<string, string>;
  body?: string;
  /** Called with what has come so far. */
  onData?: (text: string, request: import("node:http").ClientRequest) => void;
}

export const portOf = (server: Server): number => (server.address() as AddressInfo).port;

export function rawPairs(message: IncomingMessage): (readonly [string, string])[] {
  const raw = message.rawHeaders;
  return raw.flatMap((name, index) => (index % 2 === 0 ? [[name.toLowerCase(), raw[index + 1]!] as const] : []));
}

/** One request, on a connection of its own; the path goes out as it is. */
export function ask(port: number, method: string, path: string, asked: Asked = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const headers = { "x-forwarded-for": address(), ...asked.headers };
    const request = httpRequest({ port, host: "127.0.0.1", method, path, headers, agent: false });
    request.on("response", (message) => {
      let body = "";
      const end = (isCut: boolean): void => resolve(new Answer(message.statusCode!, rawPairs(message), body, isCut));
      message.setEncoding("utf8");
      message.on("data", (text: string) => {
        body += text;
        asked.onData?.(body, request);
      });
      message.on("end", () => end(false));
      message.on("error", () => end(true));
    });
    request.on("error", reject);
    request.end(asked.body);
  });
}

/** A WebSocket client of one handshake. */
export class Socket {
  readonly messages: string[] = [];
  code: number | undefined;
  private constructor(
    readonly answer: Answer,
    readonly client: WebSocket,
  ) {
    client.on("message", (data) => this.messages.push(String(data)));
    client.on("close", (code) => (this.code = code));
    client.on("error", () => {});
  }

  static open(port: number, path: string, headers: Record<string, string> = {}): Promise<Socket> {
    return new Promise((resolve, reject) => {
      const client = new WebSocket(`ws://127.0.0.1:${port}${path}`, {
        headers: { "x-forwarded-for": address(), ...headers },
      });
      client.once("open", () => resolve(new Socket(new Answer(101, [], ""), client)));
      client.once("unexpected-response", (request, message) => {
        let body = "";
        message.setEncoding("utf8").on("data", (text: string) => (body += text));
        message.on("end", () => {
          request.destroy();
          resolve(new Socket(new Answer(message.statusCode!, rawPairs(message), body), client));
        });
      });
      client.once("error", reject);
    });
  }

  get status(): number {
    return this.answer.status;
  }

  /** As a client that says goodbye. */
  close(): void {
    this.client.close();
  }

  /** As a client whose machine is gone. */
  vanish(): void {
    this.client.terminate();
  }

  /** The code with which the other side closed it. */
  async closed(): Promise<number> {
    await eventually(() => this.code !== undefined);
    return this.code!;
  }
}
