/**
 * Limits in this process, while the service is away, by the library `rate-limiter-flexible` (an optional peer).
 *
 * They hold a process at a time, in windows that begin with a key's first request: with four workers and "10/minute" forty
 * may pass. `replicas` divides for that.
 */

import { createRequire } from "node:module";

import type { RateLimiterMemory, RateLimiterRes } from "rate-limiter-flexible";

import { ConfigurationError } from "./errors.js";

const FORM = /^(\d+)\s*(?:\/|per)\s*(?:(\d+)\s*)?(second|minute|hour|day)s?$/;
const SECONDS: Readonly<Record<string, number>> = { second: 1, minute: 60, hour: 3_600, day: 86_400 };
/** Node's timers count milliseconds in 31 bits. */
const MAX_SECONDS = 20 * 86_400;

export interface LocalOptions {
  /** What to count by, of Node's request; the client's address by itself. */
  key?: (request: import("node:http").IncomingMessage) => string;
  /** How many processes share the limit. */
  replicas?: number;
}

/** Whole seconds, at least 1, where it refuses. */
export type Verdict = { allowed: true } | { allowed: false; retryAfterSeconds: number };

export class Local {
  private readonly limiter: RateLimiterMemory;
  readonly key: LocalOptions["key"];

  constructor(limit: string, { key, replicas = 1 }: LocalOptions) {
    const read = FORM.exec(limit);
    const duration = Number(read?.[2] ?? 1) * (SECONDS[read?.[3] ?? ""] ?? 0);
    const points = Math.floor(Number(read?.[1] ?? 0) / Math.max(1, replicas));
    if (read === null || Number(read[1]) === 0 || duration === 0 || duration > MAX_SECONDS) {
      throw new ConfigurationError(
        `local(${JSON.stringify(limit)}): write a limit such as "10/minute", "100 per hour" or "5/2 days", 20 days at most`,
      );
    }
    this.key = key;
    this.limiter = new (library().RateLimiterMemory)({ points: Math.max(1, points), duration });
  }

  /** Counts when it fits; a cost of 0 only looks whether one more would. Memory: the keys seen in one window. */
  async hit(key: string, cost: number): Promise<Verdict> {
    if (cost === 0) {
      const seen = await this.limiter.get(key);
      return seen === null || seen.consumedPoints < this.limiter.points ? { allowed: true } : refused(seen);
    }
    try {
      await this.limiter.consume(key, cost);
      return { allowed: true };
    } catch (full) {
      // The library counts what it refuses, too; all or nothing is the rule here.
      await this.limiter.reward(key, cost);
      return refused(full as RateLimiterRes);
    }
  }
}

function refused(seen: RateLimiterRes): Verdict {
  return { allowed: false, retryAfterSeconds: Math.max(1, Math.ceil(seen.msBeforeNext / 1_000)) };
}

function library(): typeof import("rate-limiter-flexible") {
  try {
    return createRequire(import.meta.url)("rate-limiter-flexible") as typeof import("rate-limiter-flexible");
  } catch {
    throw new ConfigurationError("onUnavailable: local(...) needs npm install rate-limiter-flexible");
  }
}

/** For `onUnavailable`: `local("10/minute")`, "100 per hour". */
export function local(limit: string, options: LocalOptions = {}): Local {
  return new Local(limit, options);
}
