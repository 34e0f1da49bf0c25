// An application with accounts, AI calls, sockets and a stream of events, protected by quotad.
//
//     quotad --config quotad.yaml
//     ALLOWED_ORIGINS=https://app.example.com WORKERS=4 node app.mjs

import cluster from "node:cluster";
import { createHmac, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import express from "express";
import { WebSocketServer } from "ws";
import { z } from "zod";

import { local, Shield } from "quotad";
import { logout, SessionCookie } from "quotad/cookies";
import { middleware } from "quotad/express";
import { personName, plainText } from "quotad/types";

const KEY = process.env.TOKEN_KEY ?? fileURLToPath(new URL("data/token.key", import.meta.url));
const PORT = Number(process.env.PORT ?? 8000);
const WORKERS = Number(process.env.WORKERS ?? 1);

const refreshCookie = new SessionCookie("refresh_token", { path: "/api/v1/auth" });
const Account = z.object({ email: plainText, password: z.string(), full_name: personName.optional() });
const Text = z.object({ text: plainText });

function accessToken(user) {
  const now = Math.floor(Date.now() / 1000);
  const claims = { iss: "example-app", sub: user, jti: randomUUID(), iat: now, exp: now + 3600, type: "access" };
  const encode = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
  const signed = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
  const secret = readFileSync(KEY, "utf8").replace(/\n$/, "");
  return `${signed}.${createHmac("sha256", secret).update(signed).digest("base64url")}`;
}

/** 400 for what is not in the form of `schema`. */
const body = (schema) => (request, response, next) => {
  const read = schema.safeParse(request.body);
  if (!read.success) {
    response.status(400).json({ status: "error", code: "VALIDATION_ERROR", message: "Bad input.", details: [] });
    return;
  }
  request.body = read.data;
  next();
};

function serve() {
  const shield = new Shield(process.env.QUOTAD ?? "127.0.0.1:50051", {
    deadlineMs: Number(process.env.QUOTAD_DEADLINE_MS ?? 50),
    // Log-ins stay limited while quotad is away; everything else is refused with 503.
    rules: [{ path: "POST /api/v1/auth/**", onUnavailable: local("10/minute", { replicas: 4 }) }],
  });

  const app = express();
  app.use(middleware(shield));
  app.use(express.json());
  const api = express.Router();
  app.use("/api/v1", api);

  api.post("/auth/signup", body(Account), (request, response) => response.json({ email: request.body.email }));
  api.post("/auth/login", body(Account), (request, response) => {
    refreshCookie.set(response, randomUUID());
    response.json({ access_token: accessToken(request.body.email) });
  });
  api.post("/auth/forgot-password", (_, response) => response.json({ status: "sent" }));
  api.post("/auth/reset-password", (_, response) => response.json({ status: "changed" }));
  api.post("/auth/logout", async (request, response) => {
    await logout(request, response, { cookie: refreshCookie });
    response.json({ status: "logged out" });
  });
  for (const path of ["/ai/transcribe", "/ai/translate", "/ai/speak"]) {
    api.post(path, body(Text), (request, response) => {
      response.json({ user: request.headers["x-user-id"], text: request.body.text });
    });
  }
  api.get("/events", (request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    const tick = () => response.write(`data: ${Date.now()}\n\n`);
    const timer = setInterval(tick, 1000);
    tick();
    // The client has left, or the lease has ended.
    request.quotad.signal.addEventListener("abort", () => clearInterval(timer));
  });
  api.get("/broken", () => {
    throw new Error("something is broken");
  });

  const sockets = new WebSocketServer({ noServer: true });
  sockets.on("connection", (socket, request) => {
    // `captions` never looks at what comes: only the transport can tell that the client has left.
    if (request.url.startsWith("/api/v1/ws/echo")) socket.on("message", (text) => socket.send(String(text)));
  });

  shield.ready().then(() => {
    const server = app.listen(PORT, "127.0.0.1", () => console.log(`worker ${process.pid} listens on ${PORT}`));
    shield.attach(server, (request) =>
      /^\/api\/v1\/ws\/(echo|captions)(\?|$)/.test(request.url) ? sockets : undefined,
    );
    process.once("SIGTERM", () => {
      shield.closeSockets();
      server.close(() => shield.close().then(() => process.exit(0)));
    });
  });
}

if (cluster.isPrimary && WORKERS > 1) {
  for (let number = 0; number < WORKERS; number += 1) cluster.fork();
} else {
  serve();
}
