/**
 * Leases that this process holds: renewed together, given back, and ended when the service says so.
 *
 * Promise: one call renews all of them (4,096 at most a call), at the time that the first is due. A holder that dies renews
 * nothing, so its leases are free again within one TTL.
 * Must never: keep a connection open whose lease the service calls lost, revoked or expired.
 */

import type { Client } from "./client.js";
import { seconds } from "./decision.js";
import { NoDecision } from "./errors.js";
import type { Events, LeaseEnded } from "./events.js";
import type { Connection, RenewConnectionsResponse__Output } from "./rpc.js";

/** The service's bound on one renewal; its other, 1 MiB, holds for leases of 256 bytes, so bytes are counted too. */
const BATCH = 4_096;
const BATCH_BYTES = 900_000;
/** For calls that no client waits for. */
const TIMEOUT_MS = 1_000;
/** Until a renewal that got no answer is tried again. */
const RETRY_MS = 1_000;
/** Most releases in flight, when many connections end at once. */
const RELEASES = 64;

export type Ended = LeaseEnded["state"];
type Renewal = RenewConnectionsResponse__Output["renewals"][number];

/** One held lease. `connection` is what renews and releases it, as the service gave it. */
export class Lease {
  renewAt = 0;
  ended: Ended | undefined;

  constructor(
    readonly connection: Connection,
    readonly onEnd: (how: Ended) => void,
  ) {}

  get id(): string {
    return this.connection.leaseId ?? "";
  }
}

/** Of one process. */
export class Keeper {
  private readonly held = new Map<string, Lease>();
  private readonly work = new Set<Promise<void>>();
  private readonly waiting: (() => void)[] = [];
  private releasing = 0;
  private timer: NodeJS.Timeout | undefined;
  private due = Infinity;
  private isRenewing = false;
  private isClosed = false;

  constructor(
    private readonly client: Client,
    private readonly events: Events,
  ) {}

  get size(): number {
    return this.held.size;
  }

  /** Resolves when nothing is on its way: releases, renewals. */
  async settled(): Promise<void> {
    while (this.work.size > 0) await Promise.all(this.work);
  }

  hold(connection: Connection, renewAfterMs: number, onEnd: (how: Ended) => void): Lease {
    const lease = new Lease(connection, onEnd);
    lease.renewAt = performance.now() + renewAfterMs;
    this.held.set(lease.id, lease);
    if (lease.renewAt < this.due && !this.isRenewing) this.wake(lease.renewAt);
    return lease;
  }

  /** Gives it back, without a wait. Again, or after its end, it does nothing. */
  release(lease: Lease): void {
    if (lease.ended !== undefined) return;
    this.end(lease, "released");
    this.forget(lease.connection);
  }

  /** Gives back a lease whose grant may have got lost on its way here. */
  forget(connection: Connection): void {
    this.spawn(this.giveBack(connection));
  }

  /** Ends what was opened with this token, or with any token of the subject when `tokenId` is empty. */
  endToken(issuer: string, subject: string, tokenId: string): void {
    for (const lease of [...this.held.values()]) {
      const { token } = lease.connection;
      const isSame = token && issuer !== "" && token.issuer === issuer && token.subject === subject;
      if (isSame && (tokenId === "" || token.tokenId === tokenId)) {
        this.forget(lease.connection);
        this.end(lease, "revoked");
      }
    }
  }

  /** Gives everything back; waits for that as long as one call may take. */
  async close(): Promise<void> {
    this.isClosed = true;
    clearTimeout(this.timer);
    for (const lease of [...this.held.values()]) this.release(lease);
    let timer: NodeJS.Timeout | undefined;
    const end = new Promise<void>((resolve) => (timer = setTimeout(resolve, 2 * TIMEOUT_MS)));
    await Promise.race([this.settled(), end]);
    clearTimeout(timer);
  }

  private spawn(work: Promise<void>): void {
    const watched = work
      .catch((error: unknown) => console.error("quotad: a task failed", error))
      .finally(() => this.work.delete(watched));
    this.work.add(watched);
  }

  private async giveBack(connection: Connection): Promise<void> {
    if (this.releasing >= RELEASES) await new Promise<void>((resolve) => this.waiting.push(resolve));
    this.releasing += 1;
    try {
      await this.client.call("ReleaseConnection", { connection }, TIMEOUT_MS);
    } catch (error) {
      // It ends by itself.
      if (!(error instanceof NoDecision)) throw error;
    } finally {
      this.releasing -= 1;
      this.waiting.shift()?.();
    }
  }

  private wake(at: number): void {
    clearTimeout(this.timer);
    this.due = at;
    if (at === Infinity || this.isClosed) return;
    this.timer = setTimeout(() => this.spawn(this.renewAll()), Math.max(0, at - performance.now()));
    // Who has only leases left may end.
    this.timer.unref();
  }

  private async renewAll(): Promise<void> {
    this.isRenewing = true;
    try {
      for (const batch of batches([...this.held.values()])) {
        // What the answer leaves out is asked about again, and not at once.
        for (const lease of batch) lease.renewAt = performance.now() + RETRY_MS;
        await this.renew(batch);
      }
    } finally {
      this.isRenewing = false;
      let first = Infinity;
      for (const lease of this.held.values()) first = Math.min(first, lease.renewAt);
      this.wake(first);
    }
  }

  private async renew(batch: readonly Lease[]): Promise<void> {
    let renewals: Renewal[];
    try {
      const connections = batch.map((lease) => lease.connection);
      ({ renewals } = await this.client.call("RenewConnections", { connections }, TIMEOUT_MS));
    } catch (error) {
      this.notRenewed(batch, error);
      return;
    }
    for (const [index, lease] of batch.entries()) {
      const renewal = renewals[index];
      if (renewal !== undefined && lease.ended === undefined) await this.renewed(lease, renewal);
    }
  }

  /** Away: the connections stay open, and who has been away too long finds out at the next renewal. */
  private notRenewed(batch: readonly Lease[], error: unknown): void {
    if (!(error instanceof NoDecision)) throw error;
    for (const lease of batch) {
      if (lease.ended !== undefined) continue;
      if (error.why === "away" || error.why === "undecided") lease.renewAt = performance.now() + RETRY_MS;
      else this.end(lease, "lost");
    }
  }

  private async renewed(lease: Lease, renewal: Renewal): Promise<void> {
    switch (renewal.state) {
      case "STATE_HELD":
      case "STATE_UNKNOWN":
        lease.renewAt = performance.now() + (1_000 * seconds(renewal.renewAfter) || RETRY_MS);
        return;
      case "STATE_REVOKED":
        this.end(lease, "revoked");
        return;
      case "STATE_EXPIRED":
        this.end(lease, "expired");
        return;
      default:
        await this.takeAgain(lease);
    }
  }

  /** A lease that ran out while nobody answered: the place may still be free. */
  private async takeAgain(lease: Lease): Promise<void> {
    try {
      const answer = await this.client.call("AcquireConnection", { connection: lease.connection }, TIMEOUT_MS);
      if (lease.ended !== undefined) this.forget(lease.connection);
      else if (answer.lease) lease.renewAt = performance.now() + 1_000 * seconds(answer.lease.renewAfter);
      else this.end(lease, answer.decision?.reason === "REASON_TOKEN_REVOKED" ? "revoked" : "lost");
    } catch (error) {
      this.notRenewed([lease], error);
    }
  }

  private end(lease: Lease, how: Ended): void {
    lease.ended = how;
    this.held.delete(lease.id);
    this.events.emit({ kind: "lease ended", state: how });
    lease.onEnd(how);
  }
}

/** As few as the service's bounds allow. */
export function batches(leases: readonly Lease[]): Lease[][] {
  const cut: Lease[][] = [];
  let size = BATCH_BYTES;
  for (const lease of leases) {
    const bytes = bytesOf(lease.connection);
    if (size + bytes > BATCH_BYTES || cut.at(-1)?.length === BATCH) {
      cut.push([]);
      size = 0;
    }
    cut.at(-1)!.push(lease);
    size += bytes;
  }
  return cut;
}

/** More than a connection takes on the wire, and not much more. */
function bytesOf(value: unknown): number {
  if (typeof value === "string") return Buffer.byteLength(value) + 8;
  if (typeof value !== "object" || value === null) return 12;
  return Object.entries(value).reduce((sum, [name, part]) => sum + name.length + bytesOf(part), 8);
}
