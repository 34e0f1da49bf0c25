/**
 * One WebSocket: Origin, token, limits, lease, all before it is accepted; then held as long as the *transport* lives.
 *
 * Promise: the lease is given back when the client is gone, even if the handler never reads. A socket whose lease was lost is
 * closed with 1013, one whose token was revoked or has expired with 4401.
 */

import type { IncomingMessage } from "node:http";
import type { Duplex } from "node:stream";

import type { WebSocket } from "ws";

import { Context } from "./context.js";
import type { Decision } from "./decision.js";
import { Face } from "./face.js";
import { Facts } from "./facts.js";
import { limitMessages } from "./messages.js";
import { respond } from "./raw.js";
import type { Runtime } from "./runtime.js";
import type { Settings } from "./settings.js";

export const TRY_AGAIN_LATER = 1013;
export const UNAUTHORIZED = 4401;
export const LIMITED = 4429;
/** How long a client may take to answer our close. */
const GRACE_MS = 5_000;

/** What of a `WebSocketServer` is used here. */
export interface SocketServer {
  shouldHandle?(request: IncomingMessage): boolean | Promise<boolean>;
  handleUpgrade(
    request: IncomingMessage,
    transport: Duplex,
    head: Buffer,
    done: (socket: WebSocket, request: IncomingMessage) => void,
  ): void;
  emit(event: "connection", socket: WebSocket, request: IncomingMessage): boolean;
}

export interface Handshake {
  readonly request: IncomingMessage;
  readonly transport: Duplex;
  readonly head: Buffer;
  readonly pick: (request: IncomingMessage) => SocketServer | undefined;
}

export async function upgrade(settings: Settings, runtime: Runtime, handshake: Handshake): Promise<void> {
  const { request, transport } = handshake;
  transport.on("error", () => transport.destroy());
  const facts = new Facts(request);
  const rule = settings.rules.find(facts.method, facts.path);
  const context = new Context(settings, runtime, facts, rule);
  const face = new Face(settings, facts, rule);
  // Where `contextOf(request)` looks for it.
  Object.assign(request, { quotad: context });
  // The transport, not the handler and not the WebSocket: it ends in every case, and once.
  transport.once("close", () => context.end());
  try {
    const server = handshake.pick(request);
    const refusal = await judge(context, server);
    if (transport.destroyed) return context.end();
    if (refusal !== undefined) return await refuse(handshake, server, context, face, refusal);
    context.onLeaseEnd = () => transport.destroy();
    server!.handleUpgrade(request, transport, handshake.head, (socket) => {
      hold(context, socket);
      server!.emit("connection", socket, request);
    });
  } catch (error) {
    console.error("quotad: a handshake failed", error);
    await refuse(handshake, undefined, context, face, settings.bodies.internal());
  }
}

async function judge(context: Context, server: SocketServer | undefined): Promise<Decision | undefined> {
  const { facts, settings } = context;
  const { bodies } = settings;
  if (!allowsOrigin(facts!, settings)) return bodies.origin();
  if (!facts!.fits) return bodies.tooLarge();
  if (!facts!.isPlain) return bodies.malformed();
  if (server === undefined || (await server.shouldHandle?.(facts!.request)) === false) return bodies.notFound();
  return context.admit([]);
}

/** A handshake without an Origin comes from no browser, so no page is behind it. */
export function allowsOrigin(facts: Facts, { cors }: Settings): boolean {
  const { origin } = facts;
  if (origin === undefined || cors.allows(origin)) return true;
  return cors.isOff && /^https?:\/\/(.*)$/.exec(origin)?.[1] === facts.request.headers.host;
}

/** An HTTP response, or, if so wished, an open and a close. */
async function refuse(
  { request, transport, head }: Handshake,
  server: SocketServer | undefined,
  context: Context,
  face: Face,
  decision: Decision,
): Promise<void> {
  context.giveBack();
  const code = context.settings.acceptThenClose;
  if (code !== undefined && server !== undefined) {
    server.handleUpgrade(request, transport, head, (socket) => close(socket, code, decision.reason));
    return;
  }
  const refusal = await face.refusal(decision);
  const { authorized, decisions } = context;
  respond(
    transport,
    face.dress([["content-type", refusal.contentType]], { authorized, decisions, refused: decision }),
    refusal,
  );
}

/** From the handshake on: what ends the socket, and what its messages cost. */
function hold(context: Context, socket: WebSocket): void {
  const { runtime, settings, rule } = context;
  const end = (code: number, reason: string): void => {
    context.end();
    close(socket, code, reason);
  };
  socket.once("close", () => context.end());
  // A client's protocol error closes the socket; it is no error of this process.
  socket.on("error", () => {});
  context.onLeaseEnd = (how) => end(how === "lost" ? TRY_AGAIN_LATER : UNAUTHORIZED, how);
  context.onRefused = (decision) => end(settings.acceptThenClose ?? LIMITED, decision.reason);
  runtime.heart.watch(socket);
  if (rule.messages !== undefined) limitMessages(context, socket, rule.messages);
}

function close(socket: WebSocket, code: number, reason: string): void {
  if (socket.readyState !== socket.OPEN) return;
  socket.close(code, reason);
  // A paused socket would not see the answer.
  if (socket.isPaused) socket.resume();
  const timer = setTimeout(() => socket.terminate(), GRACE_MS).unref();
  socket.once("close", () => clearTimeout(timer));
}
