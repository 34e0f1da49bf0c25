/** The vectors of adapters/contract, by Express and by Fastify, on the embedded store and on Redis. */

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { Server } from "node:http";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

import express from "express";
import type { Request, Response } from "express";
import Fastify from "fastify";
import type { FastifyReply, FastifyRequest } from "fastify";
import { WebSocketServer } from "ws";

import type { Options, Shield } from "quotad";
import { middleware } from "quotad/express";
import { plugin } from "quotad/fastify";

import {
  Answer,
  ask,
  CONTRACT,
  eventually,
  portOf,
  Quotad,
  Redis,
  running,
  shieldOn,
  Socket,
  token,
} from "./support.js";

type Expected = string | { matches: string };
interface Wanted {
  status?: number;
  headers?: Record<string, Expected>;
  absent?: string[];
  body?: Expected;
}
interface Sent {
  headers?: Record<string, string>;
  token?: Record<string, unknown> & { bent?: boolean };
}
interface Step {
  times?: number;
  request?: Sent & { method: string; path: string };
  socket?: Sent & { open?: string; name?: string; close?: string };
  response?: Wanted;
}
interface Vector {
  name: string;
  adapter?: Record<string, unknown>;
  service?: "up" | "down";
  steps: Step[];
}

const FILES = readdirSync(join(CONTRACT, "vectors")).sort();
const VECTORS = FILES.flatMap((file) =>
  (JSON.parse(readFileSync(join(CONTRACT, "vectors", file), "utf8")) as Vector[]).map((vector) => ({ file, vector })),
);
const OWN_HEADERS = { "X-Frame-Options": "SAMEORIGIN", Vary: "Accept", "Access-Control-Allow-Origin": "*" };

function echo(shield: Shield, server: Server): void {
  const sockets = new WebSocketServer({ noServer: true, path: "/ws/echo" });
  sockets.on("connection", (socket) => socket.on("message", (data) => socket.send(String(data))));
  shield.attach(server, sockets);
}

/** As adapters/contract/README.md describes it. */
async function byExpress(shield: Shield): Promise<Server> {
  const app = express();
  const mounted = express.Router();
  app.use(middleware(shield));
  const fine = (_: Request, response: Response): void => void response.json({ ok: true });
  const user = (request: Request, response: Response): void =>
    void response.json({ user: request.headers["x-user-id"] ?? null });
  // Express's own type has a charset; the contract's has none.
  app.use((_, response, next) => {
    response.json = (body: unknown) => response.setHeader("content-type", "application/json").end(JSON.stringify(body));
    next();
  });
  for (const path of ["/login", "/signup"]) app.post(path, fine);
  for (const path of ["/closed", "/undecided", "/plain"]) {
    app
      .route(path)
      .get(fine)
      .all((_, response) => void response.sendStatus(405));
  }
  for (const path of ["/me", "/maybe"]) app.get(path, user);
  app.post("/ai/translate", user);
  app.get("/own-headers", (_, response) => void response.set(OWN_HEADERS).json({ ok: true }));
  app.get("/boom", () => {
    throw new Error("boom");
  });
  mounted.post("/login", fine);
  app.use("/mounted", mounted);
  app.set("env", "test");
  const server = createServer(app);
  echo(shield, server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

async function byFastify(shield: Shield): Promise<Server> {
  const app = Fastify();
  await app.register(plugin(shield));
  const fine = async (_: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> =>
    reply.header("content-type", "application/json").serializer(JSON.stringify).send({ ok: true });
  const user = async (request: FastifyRequest): Promise<object> => ({ user: request.headers["x-user-id"] ?? null });
  for (const path of ["/login", "/signup", "/mounted/login"]) app.post(path, fine);
  for (const path of ["/closed", "/undecided", "/plain"]) {
    app.get(path, fine);
    app.route({ url: path, method: ["POST", "PUT", "DELETE"], handler: async (_, reply) => reply.code(405).send() });
  }
  for (const path of ["/me", "/maybe"]) app.get(path, user);
  app.post("/ai/translate", user);
  app.get("/own-headers", async (_, reply) => reply.headers(OWN_HEADERS).send({ ok: true }));
  app.get("/boom", async () => {
    throw new Error("boom");
  });
  echo(shield, app.server);
  await app.listen({ port: 0, host: "127.0.0.1" });
  return app.server;
}

function optionsOf({ adapter = {} }: Vector): Options {
  const camel = (name: string): string => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(adapter).map(([name, value]) => [camel(name), value]));
}

function headersOf({ headers = {}, token: claims }: Sent): Record<string, string> {
  // Clients come from loopback and say by X-Forwarded-For who they are, or do not.
  const sent: Record<string, string> = { "x-forwarded-for": "127.0.0.1", ...headers };
  if (claims === undefined) return sent;
  const { bent = false, sub, ...rest } = claims;
  const now = Math.floor(Date.now() / 1_000);
  for (const name of ["iat", "exp"]) if (name in rest) rest[name] = now + Number(rest[name]);
  const good = token(String(sub), rest);
  const spoilt = good.slice(0, -4) + (good.endsWith("AAAA") ? "BBBB" : "AAAA");
  return { ...sent, authorization: `Bearer ${bent ? spoilt : good}` };
}

function holds(expected: Expected, value: string): boolean {
  return typeof expected === "string" ? expected === value : new RegExp(`^(?:${expected.matches})$`, "s").test(value);
}

function compare(answer: Answer, wanted: Wanted, where: string): void {
  const seen = `${where}: ${answer.status} ${JSON.stringify(answer.headers)} ${answer.body}`;
  if (wanted.status !== undefined) assert.equal(answer.status, wanted.status, seen);
  for (const [name, value] of Object.entries(wanted.headers ?? {})) {
    const values = answer.all(name);
    assert.equal(values.length, 1, `${name} in ${seen}`);
    assert.ok(holds(value, values[0]!), `${name} in ${seen}`);
  }
  for (const name of wanted.absent ?? []) assert.deepEqual(answer.all(name), [], seen);
  if (wanted.body !== undefined) assert.ok(holds(wanted.body, answer.body), seen);
}

async function play(server: Server, shield: Shield, steps: readonly Step[]): Promise<void> {
  const open = new Map<string, Socket>();
  for (const [number, { times = 1, request, socket, response }] of steps.entries()) {
    const where = `step ${number}`;
    if (request !== undefined) {
      for (let round = 0; round < times; round += 1) {
        const { method, path } = request;
        compare(await ask(portOf(server), method, path, { headers: headersOf(request) }), response!, where);
      }
    } else if (socket?.close !== undefined) {
      const held = shield.runtime.keeper.size;
      open.get(socket.close)!.close();
      await eventually(() => shield.runtime.keeper.size === held - 1);
      await shield.runtime.keeper.settled();
    } else {
      const opened = await Socket.open(portOf(server), socket!.open!, headersOf(socket!));
      compare(opened.answer, response!, where);
      if (opened.status === 101) open.set(socket!.name!, opened);
    }
  }
  for (const socket of open.values()) socket.vanish();
}

for (const store of ["memory", "redis"] as const) {
  describe(`on ${store}`, () => {
    for (const [framework, make] of [
      ["Express", byExpress],
      ["Fastify", byFastify],
    ] as const) {
      describe(framework, () => {
        let quotad: Quotad;
        let redis: Redis | undefined;
        before(async () => {
          redis = store === "redis" ? await Redis.start() : undefined;
          quotad = await running(redis?.url);
        });
        after(async () => {
          await quotad.stop();
          await redis?.stop();
        });
        for (const { file, vector } of VECTORS) {
          test(`${file}: ${vector.name}`, async () => {
            const target = vector.service === "down" ? "127.0.0.1:1" : quotad.target;
            const shield = shieldOn(target, optionsOf(vector));
            const server = await make(shield);
            try {
              await play(server, shield, vector.steps);
            } finally {
              server.close();
              server.closeAllConnections();
              await shield.close();
            }
          });
        }
      });
    }
  });
}

test("every file of the contract is played", () => {
  const names = ["away", "cors", "headers", "limits", "sockets", "tokens"];
  assert.deepEqual(
    FILES,
    names.map((name) => `${name}.json`),
  );
});
