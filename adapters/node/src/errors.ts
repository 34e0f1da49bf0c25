/** What can go wrong, each with what to do about it. */

import type { Decision } from "./decision.js";

/** A setting that would be unsafe or without effect. Thrown while the application is put together, never later. */
export class ConfigurationError extends Error {
  override readonly name = "ConfigurationError";
}

/**
 * Why there is no decision.
 * - `away`: nobody answered in time. Counts for the breaker.
 * - `undecided`: the service answered that it cannot decide now. It is there, so the breaker is not concerned.
 * - `malformed`: the request is beyond what the service takes. A client can bring this about, so it must never let one pass.
 * - `not configured`: the service does not know the domain, the policy or the call that was named.
 */
export type Why = "away" | "undecided" | "malformed" | "not configured";

/** The service gave no decision; nothing is known about the request. */
export class NoDecision extends Error {
  override readonly name = "NoDecision";

  constructor(
    readonly why: Why,
    readonly detail: string,
  ) {
    super(`${why}: ${detail}`);
  }
}

/** Marks, inside this process, a response that a framework made of a `RateLimitExceeded` by itself. */
export const MARK = "x-quotad-refused";

/** A check or a lease was refused. Nobody need catch it: the adapter sends `decision` as it is. */
export class RateLimitExceeded extends Error {
  override readonly name = "RateLimitExceeded";
  /** For error handlers that know nothing of quotad. */
  readonly status: number;
  readonly statusCode: number;
  readonly headers: Readonly<Record<string, string>> = { [MARK]: "1" };

  constructor(readonly decision: Decision) {
    super(`refused: ${decision.reason} (${decision.status})`);
    this.status = this.statusCode = decision.status;
  }
}
