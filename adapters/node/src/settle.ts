/**
 * Reservations: charges whose true cost is known after the response.
 *
 * Must never: settle to two costs. A call without an answer is sent again with the same ticket and the same cost, which the
 * service answers like the first one; nothing else is repeated. What nobody settles in its time stays charged.
 */

import type { Client } from "./client.js";
import type { Reservation } from "./decision.js";
import { NoDecision } from "./errors.js";
import type { Events } from "./events.js";
import type { Notices } from "./notices.js";
import type { SettleCostRequest, SettleCostResponse__Output } from "./rpc.js";

/** No client waits for it. */
const TIMEOUT_MS = 1_000;
/** Between two tries; it doubles up to ten times as much. */
const PAUSE_MS = 1_000;
/** Most settlements that wait for the service at once; more stay charged as they were reserved. */
const MAX_WAITING = 10_000;

export type Cost = Pick<SettleCostRequest, "cost" | "policyCosts">;

export class Settler {
  private readonly work = new Set<Promise<unknown>>();
  private readonly pauses = new Set<() => void>();
  private isClosed = false;

  constructor(
    private readonly client: Client,
    private readonly events: Events,
    private readonly notices: Notices,
  ) {}

  /** Settles; undefined where nobody answered in time, and then nobody knows. */
  settle(reservation: Reservation, cost: Cost): Promise<SettleCostResponse__Output | undefined> {
    const work = this.work.size < MAX_WAITING ? this.ask(reservation, cost) : Promise.resolve<undefined>(this.gaveUp());
    this.work.add(work);
    void work.finally(() => this.work.delete(work)).catch(() => {});
    return work;
  }

  get waiting(): number {
    return this.work.size;
  }

  /** Lets those that are on their way finish, and gives up what waits for the service. */
  async close(): Promise<void> {
    this.isClosed = true;
    for (const wake of this.pauses) wake();
    await Promise.allSettled(this.work);
  }

  private async ask(reservation: Reservation, cost: Cost): Promise<SettleCostResponse__Output | undefined> {
    for (let pause = PAUSE_MS; ; pause = Math.min(2 * pause, 10 * PAUSE_MS)) {
      try {
        const answer = await this.client.call("SettleCost", { ticket: reservation.ticket, ...cost }, TIMEOUT_MS);
        const state = answer.state === "STATE_SETTLED" ? "settled" : "too_late";
        this.events.emit({ kind: "settled", state });
        return answer;
      } catch (error) {
        if (!(error instanceof NoDecision)) throw error;
        if (error.why === "not configured") {
          this.notices.once("W204", `quotad does not know what was asked for: ${error.detail}`);
        }
        const isOver = performance.now() + pause >= reservation.until;
        if (isOver || this.isClosed || error.why === "not configured" || error.why === "malformed") {
          return this.gaveUp();
        }
      }
      await this.pause(pause);
    }
  }

  private gaveUp(): undefined {
    this.events.emit({ kind: "settled", state: "unsettled" });
    return undefined;
  }

  private pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.pauses.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, ms);
      this.pauses.add(wake);
    });
  }
}
