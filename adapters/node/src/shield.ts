/** `Shield`: one for an application. It stands in front of Express, Fastify and `ws`, and asks the service for all. */

import type { IncomingMessage, Server, ServerResponse } from "node:http";
import type { Duplex } from "node:stream";

import { Context } from "./context.js";
import type { CheckOptions } from "./context.js";
import type { Decision } from "./decision.js";
import { Exchange } from "./exchange.js";
import { answerClientErrors } from "./raw.js";
import { ANY } from "./rules.js";
import { Runtime } from "./runtime.js";
import { readSettings } from "./settings.js";
import type { Options, Settings } from "./settings.js";
import { upgrade } from "./sockets.js";
import type { SocketServer } from "./sockets.js";

/** A revocation is written to disk or to Redis. */
export const REVOKE_MS = 1_000;

export class Shield {
  readonly settings: Settings;
  readonly runtime: Runtime;

  /** Every option is described in `Options`. */
  constructor(target = "127.0.0.1:50051", options: Options = {}) {
    this.settings = readSettings(target, options);
    this.runtime = new Runtime(this.settings);
  }

  /** Connects, before the application listens; waits a second at most. False: it goes on without, see W203. */
  ready(): Promise<boolean> {
    return this.runtime.ready();
  }

  /**
   * Takes care of what no middleware sees: what Node's parser refuses gets the headers of the other refusals, and the
   * handshakes of WebSockets are judged, Origin, token, limits and lease, before `sockets` accepts: a `WebSocketServer` with
   * `noServer: true`, or a function that picks one for the request, undefined for 404.
   */
  attach(server: Server, sockets?: SocketServer | ((request: IncomingMessage) => SocketServer | undefined)): void {
    answerClientErrors(server, this.settings);
    if (sockets === undefined) return;
    const pick = typeof sockets === "function" ? sockets : () => sockets;
    server.on("upgrade", (request: IncomingMessage, transport: Duplex, head: Buffer) => {
      void upgrade(this.settings, this.runtime, { request, transport, head, pick });
    });
  }

  /** For a job or a script: checks, peeks and leases without a request. Every fact is in `entries`. */
  outside(): Context {
    return new Context(this.settings, this.runtime, undefined, ANY);
  }

  /** As `request.quotad.check`, outside of a request. */
  check(policies: string | readonly string[], options: CheckOptions = {}): Promise<Decision> {
    return this.outside().check(policies, options);
  }

  /**
   * Everything issued to this subject so far is refused from now on; its sockets of this process close at once, those of
   * others at their next renewal. False: it was so already. Throws `NoDecision` when the service cannot keep it.
   */
  async revokeSubject(issuer: string, subject: string): Promise<boolean> {
    const { client, keeper } = this.runtime;
    const answer = await client.call("RevokeToken", { subject: { issuer, subject } }, REVOKE_MS);
    keeper.endToken(issuer, subject, "");
    return answer.newlyRevoked;
  }

  /** Closes open sockets with 1001: before `server.close()`, which waits for them. `close` does it, too. */
  closeSockets(): void {
    this.runtime.heart.close();
  }

  /** Gives back what this process holds. Fastify does it by itself; with Express, when the server has closed. */
  close(): Promise<void> {
    return this.runtime.close();
  }

  /** For adapters of further frameworks: one request, before anything is asked. */
  exchange(request: IncomingMessage, response: ServerResponse): Exchange {
    return new Exchange(this.settings, this.runtime, request, response);
  }
}
