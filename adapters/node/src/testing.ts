/**
 * A stand-in for the service, in the process of the test: `new Shield("", { transport: new FakeDecisions(...) })`.
 *
 * It keeps the promises that a test of an application looks at (a moving window, leases, revocation, headers and bodies in
 * the service's form) by a clock that the test moves. It is no second implementation: what depends on exact bytes or on the
 * algorithm is tested against the real one, `quotad --store memory: --listen 127.0.0.1:0`.
 */

import { newId } from "./client.js";
import { NoDecision } from "./errors.js";
import { SECURITY } from "./headers.js";
import type {
  AuthorizeResponse__Output,
  Claims__Output,
  Connection,
  Decision__Output,
  Lease__Output,
  PolicyStatus__Output,
  Rpc,
  Rpcs,
  Transport,
} from "./rpc.js";
import { normalised, Pattern } from "./rules.js";

const LEASE_SECONDS = 30;

/** `limit` units in `windowSeconds` for each combination of the `partition` entries; `windowSeconds` null: leases. */
export interface FakePolicy {
  name: string;
  limit: number;
  /** 60 by itself. */
  windowSeconds?: number | null;
  /** The address by itself. */
  partition?: readonly string[];
}

/** `path` as in a rule. `token`: refuses requests without one, such as `FakeDecisions.token("alice")`. */
export interface FakeRoute {
  path: string;
  policies?: readonly string[];
  token?: boolean;
}

interface Policy {
  name: string;
  limit: number;
  windowSeconds: number | null;
  partition: readonly string[];
}
/** One charge: a unit for each element. */
interface Charge {
  at: number;
  units: number;
}
interface Ask {
  names: readonly string[];
  entries: Readonly<Record<string, string>>;
  cost?: number | undefined;
  leaseId?: string | undefined;
  settles?: boolean;
}
interface Reserved {
  charges: Map<string, Charge>;
  until: number;
  settled: boolean;
}

/** A transport. `calls` has the names of the calls that came, in order. */
export class FakeDecisions implements Transport {
  /** Seconds since 1970. */
  now = 1_700_000_000;
  readonly calls: Rpc[] = [];
  private readonly policies: ReadonlyMap<string, Policy>;
  private readonly routes: readonly { pattern: Pattern; route: FakeRoute }[];
  private readonly charged = new Map<string, Charge[]>();
  private readonly leases = new Map<string, Map<string, number>>();
  private readonly reserved = new Map<string, Reserved>();
  private readonly denied = new Set<string>();
  private readonly revoked = new Set<string>();
  private trouble: "none" | "down" | "stalled" = "none";

  constructor(policies: readonly FakePolicy[] = [], routes: readonly FakeRoute[] = []) {
    this.policies = new Map(
      policies.map(({ name, limit, windowSeconds = 60, partition = ["ip"] }) => [
        name,
        { name, limit, windowSeconds, partition },
      ]),
    );
    this.routes = routes.map((route) => ({ pattern: new Pattern(route.path), route }));
  }

  // What a test does.

  /** Time passes: windows move on, leases that nobody renewed end. */
  advance(seconds: number): void {
    this.now += seconds;
  }

  /** These refuse everything, until `restore`. */
  deny(...policies: string[]): void {
    for (const policy of policies) this.denied.add(policy);
  }

  /** Nobody answers, at once. */
  down(): void {
    this.trouble = "down";
  }

  /** Nobody answers until the deadline. */
  stall(): void {
    this.trouble = "stalled";
  }

  /** Takes back `deny`, `down` and `stall`. */
  restore(): void {
    this.denied.clear();
    this.trouble = "none";
  }

  /** Every token of this user is refused from now on. */
  revoke(user: string): void {
    this.revoked.add(user);
  }

  /** As if nobody had renewed them in time. */
  loseLeases(): void {
    this.leases.clear();
  }

  /** How many leases are held under this policy. */
  held(policy: string): number {
    return [...this.leases].reduce((sum, [key, leases]) => sum + (policyOf(key) === policy ? this.live(leases) : 0), 0);
  }

  /** How many units are charged under this policy, by all together. */
  used(policy: string): number {
    return [...this.charged].reduce((sum, [key]) => sum + (policyOf(key) === policy ? this.units(key) : 0), 0);
  }

  /** A token that the fake takes for good. It is not signed. */
  static token(user: string, claims: Record<string, unknown> = {}): string {
    return `fake.${Buffer.from(JSON.stringify({ sub: user, ...claims })).toString("hex")}`;
  }

  // What the shield does.

  async ready(): Promise<boolean> {
    return this.trouble === "none";
  }

  close(): void {}

  async call<Name extends Rpc>(
    rpc: Name,
    request: Rpcs[Name]["asked"],
    timeoutMs: number,
  ): Promise<Rpcs[Name]["answered"]> {
    this.calls.push(rpc);
    if (this.trouble === "stalled") await new Promise((resolve) => setTimeout(resolve, timeoutMs)); // the deadline
    if (this.trouble !== "none") throw new NoDecision("away", "the fake is away");
    const answers: { [Key in Rpc]: (request: Rpcs[Key]["asked"]) => Rpcs[Key]["answered"] } = {
      Authorize: (asked) => this.authorize(asked),
      CheckLimit: (asked) => ({ decision: this.decide(askOf(asked)) }),
      AcquireConnection: ({ connection }) => this.acquire(connection!),
      RenewConnections: ({ connections = [] }) => ({ renewals: connections.map((one) => this.renew(one)) }),
      ReleaseConnection: ({ connection }) => ({ released: this.drop(connection!) }),
      RevokeToken: (asked) => this.revokeToken(asked),
      SettleCost: (asked) => this.settle(asked),
    };
    return answers[rpc](request);
  }

  private authorize(request: Rpcs["Authorize"]["asked"]): AuthorizeResponse__Output {
    const http = request.http!;
    const path = normalised(http.path!.split("?", 1)[0]!);
    const route = this.routes.find(({ pattern }) => pattern.matches(http.method ?? "GET", path))?.route;
    const entries: Record<string, string> = { ...request.entries, ip: http.peerAddress ?? "" };
    const answer: AuthorizeResponse__Output = {
      decision: null,
      route: route?.path ?? "",
      claims: null,
      lease: null,
      upstreamHeaders: [],
      removeHeaders: ["x-user-id"],
      clientAddress: http.peerAddress ?? "",
    };
    if (route?.token === true) {
      const sent = http.headers?.find(({ name }) => name === "authorization")?.value ?? "";
      const claims = sent === "" ? "missing" : this.readToken(sent.replace(/^Bearer fake\./, ""));
      if (typeof claims === "string") return { ...answer, decision: secured(tokenRefusal(claims)) };
      answer.claims = claims;
      answer.upstreamHeaders.push({ name: "x-user-id", value: claims.subject });
      entries["user"] = claims.subject;
    }
    const names = [...new Set([...(route?.policies ?? []), ...(request.policies ?? [])])];
    const leaseId = request.connection?.leaseId;
    answer.decision = secured(this.decide({ ...askOf(request), names, entries, leaseId }));
    const held = names.filter((name) => this.policies.get(name)?.windowSeconds === null);
    if (held.length > 0 && answer.decision.outcome === "OUTCOME_ALLOW") {
      const token = answer.claims === null ? null : { subject: answer.claims.subject, tokenId: answer.claims.tokenId };
      answer.lease = granted({ policies: held, entries, leaseId, token: token && { issuer: "fake", ...token } });
    }
    return answer;
  }

  private acquire(connection: Connection): Rpcs["AcquireConnection"]["answered"] {
    const { policies: names = [], entries = {}, leaseId } = connection;
    const decision = this.decide({ names, entries, leaseId });
    return { decision, lease: decision.outcome === "OUTCOME_ALLOW" ? granted(connection) : null };
  }

  private renew(connection: Connection): Rpcs["RenewConnections"]["answered"]["renewals"][number] {
    const leaseId = connection.leaseId ?? "";
    const keys = this.keys(connection.policies ?? [], connection.entries ?? {});
    const isHeld = keys.every((key) => (this.leases.get(key)?.get(leaseId) ?? 0) > this.now);
    const isRevoked =
      this.revoked.has(connection.token?.subject ?? "") || this.revoked.has(connection.token?.tokenId ?? "");
    const state = isRevoked ? "STATE_REVOKED" : isHeld ? "STATE_HELD" : "STATE_LOST";
    if (state !== "STATE_HELD") this.drop(connection);
    else for (const key of keys) this.leases.get(key)!.set(leaseId, this.now + LEASE_SECONDS);
    return { leaseId, state, renewAfter: span(LEASE_SECONDS / 3) };
  }

  private drop(connection: Connection): boolean {
    const keys = this.keys(connection.policies ?? [], connection.entries ?? {});
    return keys.map((key) => this.leases.get(key)?.delete(connection.leaseId ?? "") ?? false).includes(true);
  }

  private revokeToken({ subject, tokenId }: Rpcs["RevokeToken"]["asked"]): Rpcs["RevokeToken"]["answered"] {
    const target = subject?.subject ?? tokenId?.id ?? "";
    const newlyRevoked = !this.revoked.has(target);
    this.revoked.add(target);
    return { newlyRevoked };
  }

  private readToken(hex: string): Claims__Output | "bad" {
    try {
      const all = JSON.parse(Buffer.from(hex, "hex").toString()) as Record<string, unknown>;
      const subject = String(all["sub"]);
      const tokenId = String(all["jti"] ?? "");
      if (this.revoked.has(subject) || (tokenId !== "" && this.revoked.has(tokenId))) return "bad";
      return {
        issuer: "fake",
        subject,
        audience: [],
        expiresAt: span(Math.floor(this.now) + 3_600),
        notBefore: null,
        issuedAt: null,
        tokenId,
        all: { fields: Object.fromEntries(Object.entries(all).map(([name, value]) => [name, structValue(value)])) },
        user: subject,
      };
    } catch {
      return "bad";
    }
  }

  /** All or none. */
  private decide({ names, entries, cost = 1, leaseId = newId(), settles = false }: Ask): Decision__Output {
    const unknown = names.find((name) => !this.policies.has(name));
    if (unknown !== undefined) throw new NoDecision("not configured", `the fake has no policy ${unknown}`);
    const keys = this.keys(names, entries);
    const statuses = keys.map((key) => this.status(key, cost));
    if (statuses.some(({ violated }) => violated)) return denial(statuses);
    const charges = new Map<string, Charge>();
    for (const [index, key] of keys.entries()) {
      const status = statuses[index]!;
      if (status.window === null) {
        this.leases.set(
          key,
          (this.leases.get(key) ?? new Map<string, number>()).set(leaseId, this.now + LEASE_SECONDS),
        );
        status.remaining -= 1;
      } else if (cost > 0) {
        const charge = { at: this.now, units: cost };
        this.charged.set(key, [...(this.charged.get(key) ?? []), charge]);
        charges.set(key, charge);
        status.remaining -= cost;
      }
    }
    const reason = keys.length > 0 ? "REASON_WITHIN_LIMIT" : "REASON_NO_POLICY";
    const answer = decisionOf({ outcome: "OUTCOME_ALLOW", reason, httpStatus: 200, statuses });
    if (settles && charges.size > 0) {
      const ticket = newId();
      this.reserved.set(ticket, { charges, until: this.now + 300, settled: false });
      answer.reservation = { ticket: Buffer.from(ticket), settleWithin: span(300) };
    }
    return answer;
  }

  /** The first settlement holds; a repeated one changes nothing. */
  private settle({ ticket, cost, policyCosts = {} }: Rpcs["SettleCost"]["asked"]): Rpcs["SettleCost"]["answered"] {
    const reserved = this.reserved.get(Buffer.from(ticket as Uint8Array).toString());
    if (reserved === undefined) throw new NoDecision("malformed", "the fake has no such ticket");
    const isLate = !reserved.settled && this.now > reserved.until;
    if (!isLate && !reserved.settled) {
      reserved.settled = true;
      for (const [key, charge] of reserved.charges) charge.units = policyCosts[policyOf(key)] ?? cost ?? charge.units;
    }
    return { state: isLate ? "STATE_TOO_LATE" : "STATE_SETTLED", policies: [], delay: null };
  }

  private status(key: string, cost: number): PolicyStatus__Output {
    const policy = this.policies.get(policyOf(key))!;
    const { name, limit, windowSeconds } = policy;
    const isLease = windowSeconds === null;
    const used = isLease ? this.live(this.leases.get(key)) : this.units(key);
    const first = this.charged.get(key)?.[0]?.at ?? this.now;
    const remaining = this.denied.has(name) ? 0 : Math.max(0, limit - used);
    return {
      policy: name,
      algorithm: isLease ? "ALGORITHM_CONCURRENCY" : "ALGORITHM_SLIDING_WINDOW",
      limit,
      window: isLease ? null : span(windowSeconds),
      remaining,
      resetAfter: isLease ? null : span(Math.ceil(first + windowSeconds - this.now)),
      violated: remaining < (isLease ? 1 : cost),
      shadow: false,
      mode: "MODE_EXACT",
      bound: limit,
    };
  }

  /** Units in the window that ends now. */
  private units(key: string): number {
    const { windowSeconds } = this.policies.get(policyOf(key))!;
    const left = (this.charged.get(key) ?? []).filter(({ at }) => at > this.now - (windowSeconds ?? 0));
    this.charged.set(key, left);
    return left.reduce((sum, { units }) => sum + units, 0);
  }

  private live(leases: ReadonlyMap<string, number> | undefined): number {
    return [...(leases?.values() ?? [])].filter((ends) => ends > this.now).length;
  }

  private keys(names: readonly string[], entries: Readonly<Record<string, string>>): string[] {
    return names.map((name) => {
      const partition = this.policies.get(name)?.partition ?? [];
      return JSON.stringify([name, ...partition.map((entry) => entries[entry] ?? "")]);
    });
  }
}

function policyOf(key: string): string {
  return (JSON.parse(key) as string[])[0]!;
}

function askOf(request: Rpcs["CheckLimit"]["asked"] | Rpcs["Authorize"]["asked"]): Ask {
  const { policies: names = [], entries = {}, cost, settleWithin } = request;
  return { names, entries, cost, settles: settleWithin !== null && settleWithin !== undefined };
}

function span(seconds: number): { seconds: number; nanos: number } {
  return { seconds, nanos: 0 };
}

function structValue(value: unknown): { kind: "stringValue" | "numberValue" | "boolValue" | "nullValue" } {
  if (typeof value === "number") return { kind: "numberValue", numberValue: value } as { kind: "numberValue" };
  if (typeof value === "boolean") return { kind: "boolValue", boolValue: value } as { kind: "boolValue" };
  if (typeof value === "string") return { kind: "stringValue", stringValue: value } as { kind: "stringValue" };
  return { kind: "nullValue" };
}

function granted(connection: Connection): Lease__Output {
  const { domain = "", entries = {}, policies = [], leaseId = "", holder = "", token } = connection;
  const reference = token
    ? {
        issuer: token.issuer ?? "",
        subject: token.subject ?? "",
        tokenId: token.tokenId ?? "",
        issuedAt: null,
        expiresAt: null,
      }
    : null;
  return {
    leaseId,
    ttl: span(LEASE_SECONDS),
    renewAfter: span(LEASE_SECONDS / 3),
    connection: { domain, entries, policies, leaseId, holder, token: reference },
  };
}

type Part = Pick<Decision__Output, "outcome" | "reason" | "httpStatus"> & Partial<Decision__Output>;

function decisionOf(part: Part): Decision__Output {
  const answer = {
    mode: "MODE_EXACT",
    retryAfter: null,
    statuses: [],
    headers: [],
    body: null,
    reservation: null,
    ...part,
  } satisfies Decision__Output;
  // RateLimit and RateLimit-Policy, as lists.
  const policies = answer.statuses.map(({ policy, limit, window }) => {
    return `"${policy}";q=${limit}${window === null ? ';qu="concurrent-requests"' : `;w=${window.seconds}`}`;
  });
  const limits = answer.statuses.map(({ policy, remaining, resetAfter }) => {
    return `"${policy}";r=${remaining};t=${resetAfter?.seconds ?? 0}`;
  });
  if (policies.length > 0) {
    answer.headers.push({ name: "RateLimit-Policy", value: policies.join(", ") });
    answer.headers.push({ name: "RateLimit", value: limits.join(", ") });
  }
  return answer;
}

interface Refusal {
  status: number;
  reason: Decision__Output["reason"];
  code: string;
  message: string;
  details?: readonly object[];
  statuses?: PolicyStatus__Output[];
}

function refusal({ status, reason, code, message, details = [], statuses = [] }: Refusal): Decision__Output {
  const answer = decisionOf({ outcome: "OUTCOME_DENY", reason, httpStatus: status, statuses });
  const content = Buffer.from(JSON.stringify({ status: "error", code, message, details }));
  answer.body = { contentType: "application/json", content };
  answer.headers.push({ name: "Cache-Control", value: "no-store" });
  if (status === 401) answer.headers.push({ name: "WWW-Authenticate", value: "Bearer" });
  return answer;
}

function tokenRefusal(how: "missing" | "bad"): Decision__Output {
  if (how === "missing") {
    return refusal({
      status: 401,
      reason: "REASON_TOKEN_MISSING",
      code: "TOKEN_MISSING",
      message: "A token is required.",
    });
  }
  return refusal({
    status: 401,
    reason: "REASON_TOKEN_REVOKED",
    code: "TOKEN_INVALID",
    message: "The token is not valid.",
  });
}

function denial(statuses: PolicyStatus__Output[]): Decision__Output {
  const violated = statuses.filter((status) => status.violated);
  const wait = Math.max(...violated.map(({ resetAfter }) => resetAfter?.seconds ?? 0));
  const details = violated.map(({ policy, limit }) => ({ policy, limit }));
  const message = "Too many requests. Please try again later.";
  const code = "RATE_LIMIT_EXCEEDED";
  const answer = refusal({ status: 429, reason: "REASON_LIMIT_EXCEEDED", code, message, details, statuses });
  if (wait > 0) {
    answer.retryAfter = span(wait);
    answer.headers.push({ name: "Retry-After", value: String(Math.max(1, wait)) });
  }
  return answer;
}

function secured(answer: Decision__Output): Decision__Output {
  for (const [name, value] of SECURITY) answer.headers.push({ name, value });
  return answer;
}
