/**
 * One request or socket: what the service said about it, and the questions that its handler may ask.
 *
 * It stands on the request as `quotad`: `request.quotad.check("policy")`.
 */

import type { ServerResponse } from "node:http";

import { claimEntries, readClaims } from "./claims.js";
import type { Claims } from "./claims.js";
import { holder, newId } from "./client.js";
import { duration, readDecision, seconds } from "./decision.js";
import type { Decision, Reservation } from "./decision.js";
import { joinEntries } from "./entries.js";
import type { Entries } from "./entries.js";
import { NoDecision, RateLimitExceeded } from "./errors.js";
import type { Decided } from "./events.js";
import type { Facts } from "./facts.js";
import { reshape, spelling } from "./identity.js";
import { Lease } from "./leases.js";
import type { Ended } from "./leases.js";
import { costOf, SETTLE_WITHIN_MS, wholeUnits } from "./limit.js";
import type { Demand, Limit, Settle } from "./limit.js";
import type { AuthorizeResponse__Output, Lease__Output, Rpc, Rpcs } from "./rpc.js";
import type { Rule } from "./rules.js";
import type { Runtime } from "./runtime.js";
import type { Settings } from "./settings.js";
import { unchecked } from "./unchecked.js";

/** Whose headers a response carries; a socket's handler may check for as long as it lives. */
const MAX_DECISIONS = 16;

export interface CheckOptions {
  /** Absent: each policy's own. */
  cost?: number;
  /** Further facts to count by; they replace the request's own. */
  entries?: Entries;
  /** Given: the cost is a reservation, to be settled by `settle(decision, cost)` within this time. */
  settleWithinMs?: number;
}

/** A lease that a handler holds. It ends with the transport at the latest. */
export interface HeldLease {
  readonly id: string;
  release(): void;
}

interface Settlement {
  /** Undefined: all of the reservation. */
  readonly policies: readonly string[] | undefined;
  readonly cost: () => number | undefined | Promise<number | undefined>;
}

/** `claims` is undefined when the route asks for no token, and when nobody could check it (`isUnchecked`). */
export class Context {
  route = "";
  claims: Claims | undefined;
  isUnchecked = false;
  isOver = false;
  authorized: Decision | undefined;
  /** Whose headers the response carries, beside the route's. */
  readonly decisions: Decision[] = [];
  onLease: (() => void) | undefined;
  onLeaseEnd: ((how: Ended) => void) | undefined;
  onRefused: ((decision: Decision) => void) | undefined;
  /** The framework's own request, for the application's functions. */
  request: object;
  response: ServerResponse | undefined;
  private readonly leases = new Set<Lease>();
  private readonly reservations: { reservation: Reservation; settlements: readonly Settlement[] }[] = [];
  private readonly abort = new AbortController();

  /** `facts` undefined: a job, outside of any request. */
  constructor(
    readonly settings: Settings,
    readonly runtime: Runtime,
    readonly facts: Facts | undefined,
    readonly rule: Rule,
  ) {
    this.request = facts?.request ?? {};
  }

  /** Aborted when the client has left, the response is over or the lease has ended. */
  get signal(): AbortSignal {
    return this.abort.signal;
  }

  /** The client's address by the trusted proxies; empty when there is none. */
  get client(): string {
    return this.facts?.client(this.settings.trusted, this.settings.notices) ?? "";
  }

  /** The claims of a checked token. 401 without a token, 503 when nobody could check it. */
  requireClaims(): Claims {
    if (this.claims !== undefined) return this.claims;
    const { bodies } = this.settings;
    throw new RateLimitExceeded(this.isUnchecked ? bodies.tokenUnavailable() : bodies.tokenMissing());
  }

  /** Charges these policies, all or none. Throws `RateLimitExceeded` when one refuses, or nobody answers and the rule says closed. */
  async check(policies: string | readonly string[], options: CheckOptions = {}): Promise<Decision> {
    const decision = await this.ask(policies, options);
    this.carry(decision);
    if (!decision.allowed) throw this.refused(decision);
    return decision;
  }

  /** What a check would say now; charges nothing and throws nothing. */
  peek(policies: string | readonly string[], { entries }: Pick<CheckOptions, "entries"> = {}): Promise<Decision> {
    return this.ask(policies, { cost: 0, entries });
  }

  /** Settles what a `check` with `settleWithinMs` reserved. Without a reservation there is nothing to do. */
  async settle(decision: Decision, cost: number): Promise<void> {
    const units = wholeUnits(cost);
    if (decision.reservation !== undefined && units !== undefined) {
      await this.runtime.settler.settle(decision.reservation, { cost: units });
    }
  }

  /** Takes a lease that ends with the transport at the latest. Throws `RateLimitExceeded` when there is none. */
  async lease(
    policies: string | readonly string[],
    { entries }: Pick<CheckOptions, "entries"> = {},
  ): Promise<HeldLease> {
    const connection = {
      domain: this.settings.domain,
      policies: list(policies),
      entries: this.entries(entries),
      leaseId: newId(),
      holder: holder(),
      token: this.claims?.reference,
    };
    const began = performance.now();
    let decision: Decision;
    let granted: Lease__Output | null = null;
    try {
      const answer = await this.call("AcquireConnection", { connection });
      decision = readDecision(answer.decision!);
      granted = answer.lease;
      this.told("AcquireConnection", decision, began);
      this.carry(decision);
    } catch (error) {
      this.runtime.keeper.forget(connection);
      decision = await this.withoutAnswer(error, 0);
    }
    if (!decision.allowed) throw this.refused(decision);
    if (granted === null) return { id: connection.leaseId, release: () => {} };
    const lease = this.hold(granted);
    return { id: lease.id, release: () => this.giveBack(lease) };
  }

  /** Asks what is to be asked before the application sees the request; a refusal, or undefined: it may pass. */
  async admit(limits: readonly Limit[]): Promise<Decision | undefined> {
    const all = [this.rule.limits ?? [], limits].flat() as Limit[];
    const asks = this.settings.authorize && this.rule.skip !== true;
    const along: Demand[] = [];
    const own: Limit[] = [];
    const taken: Record<string, string> = {};
    for (const limit of all) {
      const fits = asks && limit.along !== undefined && agrees(limit.along.entries, taken);
      if (!fits) own.push(limit);
      else {
        along.push(limit.along!);
        Object.assign(taken, limit.along!.entries);
      }
    }
    if (asks) {
      const decision = await this.authorize(along, taken);
      if (!decision.allowed) return decision;
    } else if (this.settings.authorize) {
      this.forbidIdentity();
    }
    try {
      for (const limit of own) await this.demand(limit, this.request);
    } catch (error) {
      if (error instanceof RateLimitExceeded) return error.decision;
      throw error;
    }
    return undefined;
  }

  /** One limit by a call of its own. */
  async demand(limit: Limit, request: object): Promise<void> {
    const demand = await limit.demand(request);
    if (demand === undefined) return;
    const { policies, cost, entries, settle, settleWithinMs } = demand;
    const decision = await this.check(policies, { cost, entries, settleWithinMs: settle && settleWithinMs });
    if (settle !== undefined) this.reserve(decision, [this.settlement(undefined, settle, request)], cost);
  }

  /** All leases of this request, or one; harmless when they are given back already. */
  giveBack(lease?: Lease): void {
    for (const one of lease === undefined ? [...this.leases] : [lease]) {
      this.runtime.keeper.release(one);
      this.leases.delete(one);
    }
  }

  /** The transport is over: what it held is given back, and so is what the handler takes from now on. */
  end(): void {
    if (this.isOver) return;
    this.isOver = true;
    this.giveBack();
    for (const one of this.reservations.splice(0)) void this.settleAll(one.reservation, one.settlements);
    this.abort.abort();
  }

  /** Takes away the identity headers that a client sent, where the service is not asked. */
  forbidIdentity(): void {
    if (this.facts !== undefined) reshape(this.facts.request, [], this.runtime.identity);
  }

  /** Token, limits and lease by the service's routes, with what goes along, in one call. */
  private async authorize(along: readonly Demand[], entries: Entries): Promise<Decision> {
    const { rule, settings, runtime, facts } = this;
    const cost = rule.cost === undefined ? undefined : await costOf(rule.cost, facts!.request);
    const within = [
      ...(rule.settle === undefined ? [] : [rule.settleWithinMs ?? SETTLE_WITHIN_MS]),
      ...along.filter(({ settle }) => settle !== undefined).map(({ settleWithinMs }) => settleWithinMs),
    ];
    const request = {
      domain: settings.domain,
      http: facts!.http(),
      requestId: newId(),
      connection: { leaseId: newId(), holder: holder() },
      policies: [...new Set(along.flatMap(({ policies }) => policies))],
      entries,
      cost,
      settleWithin: within.length > 0 && cost !== 0 ? duration(Math.max(...within)) : null,
    };
    const began = performance.now();
    let answer: AuthorizeResponse__Output;
    try {
      answer = await this.call("Authorize", request);
    } catch (error) {
      this.isUnchecked = true;
      this.authorized = await this.withoutAnswer(error, cost ?? 1);
      this.forbidIdentity();
      return this.authorized;
    }
    const decision = (this.authorized = readDecision(answer.decision!, true));
    this.route = answer.route;
    this.told("Authorize", decision, began);
    if (answer.claims) this.claims = readClaims(answer.claims);
    if (answer.lease) this.hold(answer.lease);
    for (const name of answer.removeHeaders) runtime.identity.add(spelling(name));
    reshape(facts!.request, answer.upstreamHeaders, answer.removeHeaders);
    const missing = request.policies.find((name) => !decision.statuses.some(({ policy }) => policy === name));
    if (decision.allowed && missing !== undefined) {
      // A service that is older than this package reads past what it does not know, and would let everything pass.
      this.authorized = await this.withoutAnswer(new NoDecision("not configured", `Authorize left out ${missing}`), 0);
      return this.authorized;
    }
    const settlements = [
      ...(rule.settle === undefined ? [] : [this.settlement(undefined, rule.settle, facts!.request)]),
      ...along.flatMap(({ policies, settle }) =>
        settle === undefined ? [] : [this.settlement(policies, settle, this.request)],
      ),
    ];
    if (settlements.length > 0) this.reserve(decision, settlements, cost);
    return decision;
  }

  private async ask(policies: string | readonly string[], options: CheckOptions): Promise<Decision> {
    const names = list(policies);
    const { cost, settleWithinMs } = options;
    const request = {
      domain: this.settings.domain,
      policies: names,
      entries: this.entries(options.entries),
      requestId: newId(),
      cost,
      settleWithin: settleWithinMs === undefined || cost === 0 ? null : duration(settleWithinMs),
    };
    const began = performance.now();
    try {
      const decision = readDecision((await this.call("CheckLimit", request)).decision!);
      this.told("CheckLimit", decision, began);
      return decision;
    } catch (error) {
      return this.withoutAnswer(error, cost ?? 1);
    }
  }

  private call<Name extends Rpc>(rpc: Name, request: Rpcs[Name]["asked"]): Promise<Rpcs[Name]["answered"]> {
    return this.runtime.client.call(rpc, request, this.rule.deadlineMs ?? this.settings.deadlineMs);
  }

  /** The facts of this request, then the caller's own, which replace. */
  private entries(more: Entries = {}): Record<string, string> {
    const claims = this.claims === undefined ? {} : claimEntries(this.claims);
    const own = { method: this.facts?.method ?? "", route: this.route, ip: this.client };
    return joinEntries({ ...own, ...claims }, more);
  }

  private carry(decision: Decision): void {
    if (this.decisions.length < MAX_DECISIONS) this.decisions.push(decision);
  }

  private refused(decision: Decision): RateLimitExceeded {
    this.onRefused?.(decision);
    return new RateLimitExceeded(decision);
  }

  private told(rpc: Decided["rpc"], decision: Decision, began: number): void {
    if (decision.reason === "partition_missing") {
      this.settings.notices.once("W103", `${this.facts?.path ?? "a job"}: it lacks what a policy counts it by`);
    }
    this.runtime.events.emit({
      kind: "decided",
      rpc,
      allowed: decision.allowed,
      reason: decision.reason,
      mode: decision.mode,
      route: this.route,
      policies: decision.statuses.map(({ policy }) => policy),
      seconds: (performance.now() - began) / 1_000,
    });
  }

  private withoutAnswer(error: unknown, cost: number): Promise<Decision> {
    if (!(error instanceof NoDecision)) throw error;
    const { settings, runtime } = this;
    if (error.why === "not configured") {
      settings.notices.once("W204", `quotad does not know what was asked for: ${error.detail}`);
    }
    const choice = this.rule.onUnavailable ?? settings.onUnavailable;
    const asked = { choice, error, cost, client: this.client, request: this.facts?.request };
    return unchecked(asked, settings.bodies, runtime.events);
  }

  private hold(granted: Lease__Output): Lease {
    const ended = (how: Ended): void => {
      this.leases.delete(lease);
      if (how === "released") return;
      this.onLeaseEnd?.(how);
      this.abort.abort();
    };
    const lease = this.runtime.keeper.hold(granted.connection!, 1_000 * seconds(granted.renewAfter), ended);
    if (this.isOver) {
      this.runtime.keeper.release(lease);
      return lease;
    }
    this.leases.add(lease);
    this.onLease?.();
    return lease;
  }

  private settlement(policies: readonly string[] | undefined, settle: Settle<never>, request: object): Settlement {
    return { policies, cost: () => (settle as Settle<object>)(request, this.response) };
  }

  private reserve(decision: Decision, settlements: readonly Settlement[], cost: number | undefined): void {
    if (decision.reservation !== undefined) {
      this.reservations.push({ reservation: decision.reservation, settlements });
    } else if (
      cost !== 0 &&
      decision.mode === "exact" &&
      decision.statuses.some(({ windowSeconds }) => windowSeconds)
    ) {
      this.settings.notices.once("W204", "quotad made no reservation, so costs stay as they were charged");
    }
  }

  private async settleAll(reservation: Reservation, settlements: readonly Settlement[]): Promise<void> {
    try {
      let cost: number | undefined;
      const policyCosts: Record<string, number> = {};
      for (const settlement of settlements) {
        const units = wholeUnits(await settlement.cost());
        if (units === undefined) continue;
        if (settlement.policies === undefined) cost = units;
        else for (const policy of settlement.policies) policyCosts[policy] = units;
      }
      if (cost !== undefined || Object.keys(policyCosts).length > 0) {
        await this.runtime.settler.settle(reservation, { cost, policyCosts });
      }
    } catch (error) {
      console.error("quotad: a cost could not be settled", error);
    }
  }
}

function list(policies: string | readonly string[]): string[] {
  return typeof policies === "string" ? [policies] : [...policies];
}

function agrees(entries: Entries, taken: Entries): boolean {
  return Object.entries(entries).every(([name, value]) => taken[name] === undefined || taken[name] === value);
}

/** The context of a request of Express, Fastify or Node. */
export function contextOf(request: object): Context {
  const { quotad } = request as { quotad?: unknown };
  if (quotad instanceof Context) return quotad;
  throw new Error("quotad: no shield is in front of this application: app.use(middleware(shield)) comes first");
}
