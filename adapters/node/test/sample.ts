/** The application of the tests, once in Express and once in Fastify: the same routes, and what goes wrong. */

import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";

import express from "express";
import Fastify from "fastify";
import { WebSocketServer } from "ws";
import type { WebSocket } from "ws";

import type { Context, RequestLike, Shield } from "quotad";
import { contextOf, hold, limit } from "quotad";
import { logout, SessionCookie } from "quotad/cookies";
import type { Responding } from "quotad/cookies";
import { middleware } from "quotad/express";
import { plugin } from "quotad/fastify";

import { portOf } from "./support.js";

export interface Sample {
  readonly server: Server;
  readonly port: number;
  /** What the handlers wait for. */
  release(): void;
  close(): Promise<void>;
}

export type Framework = "Express" | "Fastify";
export const FRAMEWORKS: readonly Framework[] = ["Express", "Fastify"];

export const make = (framework: Framework, shield: Shield): Promise<Sample> =>
  framework === "Express" ? byExpress(shield) : byFastify(shield);

const query = (request: RequestLike, name: string): string =>
  new URL(request.url ?? "/", "http://localhost").searchParams.get(name) ?? "";

export const cookie = new SessionCookie("refresh_token");

const byAddress = limit("auth-per-ip");
const byAccount = limit("per-account", {
  by: { account: (request) => query(request, "account") },
  cost: (request) => Number(query(request, "cost") || 1),
  skip: (request) => request.headers["x-skip"] === "yes",
});
const held = hold("streams-per-user", { entries: { user: "held" } });

/** A handler in the words of both frameworks: what to send. */
type Handler = (request: RequestLike & { quotad: Context }, response: ServerResponse, reply: Responding) => unknown;

interface Route {
  method: "GET" | "POST";
  path: string;
  limits?: readonly ReturnType<typeof limit>[];
  hold?: typeof held;
  handler: Handler;
}

/** Answers by Node's own response. */
const SENT = Symbol("sent");

function routes(released: Promise<void>): Route[] {
  const inside: Handler = async ({ quotad, url }) => {
    const entries = { account: query({ headers: {}, url }, "account") };
    const before = await quotad.peek("per-account", { entries });
    const decision = await quotad.check("per-account", { cost: 2, entries });
    const after = await quotad.peek("per-account", { entries });
    const left = [before, decision, after].map(({ statuses }) => statuses[0]!.remaining);
    return { left, after: after.allowed };
  };
  const stream: Handler = (_, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("data: 1\n\n");
    // It does not ask whether anybody is there.
    void released.then(() => {
      response.write("data: 2\n\n");
      response.end();
    });
    return SENT;
  };
  const post = (path: string, handler: Handler, more: Partial<Route> = {}): Route => {
    return { method: "POST", path, handler, ...more };
  };
  const get = (path: string, handler: Handler, more: Partial<Route> = {}): Route => {
    return { method: "GET", path, handler, ...more };
  };
  const hello: Handler = () => ({ hello: "world" });
  const user: Handler = ({ headers }) => ({ user: headers["x-user-id"] ?? null, forged: headers["x_user_id"] ?? null });
  return [
    post("/login", hello),
    post("/signup", hello),
    get("/plain", user),
    get("/own-headers", (_, response) => {
      const headers = { "X-Frame-Options": "SAMEORIGIN", Vary: "Accept", "Access-Control-Allow-Origin": "*" };
      response.writeHead(200, { ...headers, Server: "x", "X-Powered-By": "y" }).end("{}");
      return SENT;
    }),
    get("/boom", () => {
      throw new Error("boom");
    }),
    get("/me", ({ quotad }) => {
      const claims = quotad.requireClaims();
      return { user: claims.subject, plan: claims.all["plan"] ?? null };
    }),
    post("/me", async (request, _, reply) => {
      await logout(request, reply, { cookie, everywhere: query(request, "everywhere") === "1" });
      return {};
    }),
    get("/maybe", ({ quotad }) => ({ user: quotad.claims?.subject ?? null })),
    post("/maybe", hello, { limits: [limit("ai-per-user", { by: { user: "fixed" } })] }),
    post("/ai/translate", user),
    post("/ai/both", hello, { limits: [byAddress] }),
    post("/limited", hello, { limits: [byAddress] }),
    post("/account", hello, { limits: [byAccount] }),
    post("/typo", hello, { limits: [limit("typo")] }),
    post("/by-user", hello, { limits: [limit("ai-per-user")] }),
    get("/inside", inside),
    get("/late", async ({ quotad }, response) => {
      response.write("begun");
      await quotad.check("per-account", { cost: 3, entries: { account: "late" } });
      return SENT;
    }),
    get("/events", stream),
    get("/held", stream, { hold: held }),
    get("/leased", async ({ quotad }) => {
      const lease = await quotad.lease("streams-per-user", { entries: { user: "leased" } });
      await released;
      lease.release();
      return "done";
    }),
  ];
}

async function byExpress(shield: Shield): Promise<Sample> {
  const { released, release } = gate();
  const app = express();
  app.set("env", "test");
  app.use(middleware(shield));
  for (const route of routes(released)) {
    const before = [...(route.limits ?? []), ...(route.hold ? [route.hold] : [])];
    app[route.method === "GET" ? "get" : "post"](route.path, ...before, async (request, response) => {
      const sent = await route.handler(request, response, response);
      if (sent !== SENT) response.json(sent);
    });
  }
  const mounted = express();
  mounted.post("/limited", byAddress, (_, response) => void response.json({ hello: "world" }));
  app.use("/mounted", mounted);
  const server = createServer(app);
  sockets(shield, server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const close = async (): Promise<void> => {
    release();
    shield.closeSockets();
    const closed = new Promise((resolve) => server.close(resolve));
    server.closeAllConnections();
    await closed;
    await shield.close();
  };
  return { server, port: portOf(server), release, close };
}

async function byFastify(shield: Shield): Promise<Sample> {
  const { released, release } = gate();
  const app = Fastify({ forceCloseConnections: true });
  await app.register(plugin(shield));
  for (const route of routes(released)) {
    app.route({
      method: route.method,
      url: route.path,
      config: { quotad: route.limits ?? [] },
      preHandler: route.hold ?? [],
      handler: async (request, reply) => {
        const sent = await route.handler(request, reply.raw, reply);
        return sent === SENT ? reply.hijack() : reply.send(sent);
      },
    });
  }
  // As a preHandler, which both frameworks know.
  app.post("/mounted/limited", { preHandler: byAddress }, async () => ({ hello: "world" }));
  sockets(shield, app.server);
  await app.listen({ port: 0, host: "127.0.0.1" });
  const close = async (): Promise<void> => {
    release();
    await app.close();
  };
  return { server: app.server, port: portOf(app.server), release, close };
}

/** `/ws/silent` never looks at what comes, `/ws/paused` does not even read; the others echo. */
function sockets(shield: Shield, server: Server): void {
  const all = new WebSocketServer({ noServer: true });
  all.on("connection", (socket: WebSocket, request: IncomingMessage) => {
    if (request.url!.startsWith("/ws/silent")) return;
    if (request.url!.startsWith("/ws/paused")) return socket.pause();
    if (request.url!.startsWith("/ws/checks")) {
      contextOf(request)
        .check("per-account", { cost: 3, entries: { account: "socket" } })
        .catch(() => {});
      return;
    }
    socket.on("message", (data) => socket.send(String(data)));
    let seen = 0;
    socket.on("message", () => (seen += 1));
    socket.on("close", () => ends.push(`${request.url!.split("?")[0]} after ${seen}`));
  });
  shield.attach(server, (request) => (/^\/(ws|free)\//.test(request.url!) ? all : undefined));
}

/** Echoing sockets that ended, and after how many messages. */
export const ends: string[] = [];

function gate(): { released: Promise<void>; release: () => void } {
  let release = (): void => {};
  const released = new Promise<void>((resolve) => (release = resolve));
  return { released, release };
}
