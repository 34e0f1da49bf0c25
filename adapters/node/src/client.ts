/** Calls of the service under a deadline and a breaker, for one process. */

import { randomBytes } from "node:crypto";
import { hostname } from "node:os";

import { Breaker } from "./breaker.js";
import { NoDecision } from "./errors.js";
import type { Events } from "./events.js";
import type { Notices } from "./notices.js";
import type { Rpc, Rpcs, Transport } from "./rpc.js";

/** Must never repeat a call that may have been sent: what it charged would be charged twice. */
export class Client {
  readonly breaker: Breaker;

  constructor(
    private readonly transport: Transport,
    events: Events,
    notices: Notices,
  ) {
    this.breaker = new Breaker((isOpen) => {
      events.emit({ kind: "breaker changed", isOpen });
      if (isOpen) notices.change("W201", "quotad does not answer; each rule's onUnavailable holds");
      else notices.change("W202", "quotad answers again");
    });
  }

  /** Throws `NoDecision`. While the breaker is open that costs no wait. */
  async call<Name extends Rpc>(
    rpc: Name,
    request: Rpcs[Name]["asked"],
    timeoutMs: number,
  ): Promise<Rpcs[Name]["answered"]> {
    if (!this.breaker.admits()) throw new NoDecision("away", `${rpc}: the breaker is open`);
    try {
      const answer = await this.transport.call(rpc, request, timeoutMs);
      this.breaker.succeeded();
      return answer;
    } catch (error) {
      if (error instanceof NoDecision && error.why !== "away") this.breaker.succeeded();
      else this.breaker.failed();
      throw error;
    }
  }

  ready(timeoutMs: number): Promise<boolean> {
    return this.transport.ready(timeoutMs);
  }

  close(): void {
    this.transport.close();
  }
}

/** A request or lease id: 128 random bits, made here, never taken from a client. */
export function newId(): string {
  return randomBytes(16).toString("hex");
}

/** Who holds this process's leases, as operators see it. */
export function holder(): string {
  return `${hostname().slice(0, 200)}/${process.pid}`;
}
