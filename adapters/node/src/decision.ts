/** A decision as the application sees it: the service's answer, copied, never computed anew. */

import { encode } from "./headers.js";
import type { Headers } from "./headers.js";
import type { Decision__Output, PolicyStatus__Output } from "./rpc.js";

/** What one policy said. Durations in seconds. */
export interface PolicyStatus {
  readonly policy: string;
  readonly limit: number;
  readonly remaining: number;
  readonly windowSeconds: number | undefined;
  readonly resetAfterSeconds: number;
  readonly violated: boolean;
  readonly shadow: boolean;
  readonly mode: string;
}

/** A charge whose true cost is known later: what `settle` needs. */
export interface Reservation {
  readonly ticket: Buffer;
  /** When it can be settled no more, by `performance.now()`. */
  readonly until: number;
}

/** `status`, `headers`, `body` are ready to send. */
export interface Decision {
  readonly allowed: boolean;
  readonly reason: string;
  readonly mode: string;
  readonly status: number;
  readonly headers: Headers;
  readonly contentType: string;
  readonly body: Buffer;
  /** Exact; undefined: waiting cannot help. */
  readonly retryAfterSeconds: number | undefined;
  readonly statuses: readonly PolicyStatus[];
  readonly reservation: Reservation | undefined;
  /** Whether `headers` hold the service's security headers, as those of `Authorize` do. */
  readonly isSecured: boolean;
}

/** The service's answer. An outcome that this version does not know is a denial. */
export function readDecision(answer: Decision__Output, isSecured = false): Decision {
  const reserved = answer.reservation;
  return {
    allowed: answer.outcome === "OUTCOME_ALLOW",
    reason: enumName(answer.reason, "REASON_"),
    mode: enumName(answer.mode, "MODE_"),
    status: answer.httpStatus,
    headers: answer.headers.map(({ name, value }) => encode(name, value)),
    contentType: answer.body?.contentType ?? "",
    body: answer.body?.content ?? Buffer.alloc(0),
    retryAfterSeconds: answer.retryAfter === null ? undefined : seconds(answer.retryAfter),
    statuses: answer.statuses.map(readStatus),
    reservation: reserved
      ? { ticket: reserved.ticket, until: performance.now() + 1_000 * seconds(reserved.settleWithin) }
      : undefined,
    isSecured,
  };
}

function readStatus(status: PolicyStatus__Output): PolicyStatus {
  return {
    policy: status.policy,
    limit: status.limit,
    remaining: status.remaining,
    windowSeconds: status.window === null ? undefined : seconds(status.window),
    resetAfterSeconds: seconds(status.resetAfter),
    violated: status.violated,
    shadow: status.shadow,
    mode: enumName(status.mode, "MODE_"),
  };
}

export function seconds(duration: { seconds: number; nanos: number } | null | undefined): number {
  return duration ? duration.seconds + duration.nanos / 1_000_000_000 : 0;
}

export function duration(ms: number): { seconds: number; nanos: number } {
  const whole = Math.floor(ms / 1_000);
  return { seconds: whole, nanos: Math.round((ms - whole * 1_000) * 1_000_000) };
}

/** `limit_exceeded` for REASON_LIMIT_EXCEEDED; the number itself for one that came later than this version. */
function enumName(value: string | number, prefix: string): string {
  const text = String(value);
  return text.startsWith(prefix) ? text.slice(prefix.length).toLowerCase() : text;
}
