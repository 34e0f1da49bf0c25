/**
 * What a route asks for beside the service's own routes: `limit("auth-per-ip")`.
 *
 * One value for all: a handler of Express, a `preHandler` or `config.quotad` of Fastify, or part of a rule. Where it is
 * known before `Authorize` is sent it goes along in that call; else it is a `CheckLimit` of its own.
 */

import type { IncomingHttpHeaders, ServerResponse } from "node:http";

import { contextOf } from "./context.js";
import type { Entries } from "./entries.js";
import { isOwnFact } from "./entries.js";
import { ConfigurationError } from "./errors.js";

/** What requests of Express, of Fastify and of Node have in common. */
export interface RequestLike {
  readonly headers: IncomingHttpHeaders;
  readonly method?: string;
  readonly url?: string;
}

type Awaitable<Value> = Value | Promise<Value>;
/** Units, or a function of the request that says them. */
export type Cost<Request = RequestLike> = number | ((request: Request) => Awaitable<number>);
/** What it really cost, when the response is over; undefined leaves it as it was charged. */
export type Settle<Request = RequestLike> = (
  request: Request,
  response: ServerResponse | undefined,
) => Awaitable<number | undefined>;

export interface LimitOptions<Request = RequestLike> {
  /** Absent: the policy's own. */
  cost?: Cost<Request>;
  /** The cost is an estimate; this says, after the response, what it was. */
  settle?: Settle<Request>;
  /** How long after the request it can be settled; 5 minutes by itself, an hour at most. */
  settleWithinMs?: number;
  skip?: (request: Request) => Awaitable<boolean>;
  /** Further facts to count by; they replace the request's own. */
  entries?: Entries | ((request: Request) => Awaitable<Entries>);
  /** The same, fact by fact: `by: { account: (request) => request.params.account }`. */
  by?: Readonly<Record<string, string | ((request: Request) => Awaitable<string>)>>;
}

/** What a limit asks for one request. */
export interface Demand {
  readonly policies: readonly string[];
  readonly cost: number | undefined;
  readonly entries: Entries;
  readonly settle: Settle<never> | undefined;
  readonly settleWithinMs: number;
}

/** What Express and Fastify hand to a handler alike. */
type Next = (error?: Error) => void;

/** Charges its policies, all or none. */
export interface Limit {
  (request: object, response: object, next: Next): void;
  readonly policies: readonly string[];
  /**
   * What can go along in `Authorize`: neither a function, which may look at the token or the body, nor a cost, which would be
   * that of the route's own policies too, nor an entry that would replace what the request says itself.
   */
  readonly along: Demand | undefined;
  /** Undefined: the request is skipped. */
  demand(request: object): Promise<Demand | undefined>;
}

export const SETTLE_WITHIN_MS = 300_000;

export function limit<Request = RequestLike>(
  policies: string | readonly string[],
  options: LimitOptions<Request> = {},
): Limit {
  const names = typeof policies === "string" ? [policies] : [...policies];
  if (names.length === 0) throw new ConfigurationError("limit() names no policy");
  if (typeof options.cost === "number" && !(Number.isSafeInteger(options.cost) && options.cost >= 0)) {
    throw new ConfigurationError(`limit(${JSON.stringify(names[0])}): cost ${options.cost} is no whole number from 0`);
  }
  const { entries = {}, by = {}, settleWithinMs = SETTLE_WITHIN_MS } = options;
  const settle = options.settle as Settle<never> | undefined;
  const demand = async (object: object): Promise<Demand | undefined> => {
    const request = object as Request;
    if (options.skip !== undefined && (await options.skip(request))) return undefined;
    const all = { ...(typeof entries === "function" ? await entries(request) : entries) };
    for (const [name, value] of Object.entries(by)) {
      all[name] = typeof value === "function" ? await value(request) : value;
    }
    return {
      policies: names,
      cost: options.cost === undefined ? undefined : await costOf(options.cost, object),
      entries: all,
      settle,
      settleWithinMs,
    };
  };
  const handler = (request: object, _response: object, next: Next): void => {
    contextOf(request)
      .demand(limited, request)
      .then(() => next(), next);
  };
  const fixed = { ...(typeof entries === "function" ? {} : entries), ...by };
  const isPlain =
    options.cost === undefined &&
    options.skip === undefined &&
    typeof entries !== "function" &&
    Object.entries(fixed).every(([name, value]) => typeof value === "string" && !isOwnFact(name));
  const along = isPlain
    ? { policies: names, cost: undefined, entries: fixed as Entries, settle, settleWithinMs }
    : undefined;
  const limited: Limit = Object.assign(handler, { policies: names, demand, along });
  return limited;
}

/** Takes a lease for as long as the response streams: a handler of Express, a `preHandler` of Fastify. */
export function hold<Request = RequestLike>(
  policies: string | readonly string[],
  options: Pick<LimitOptions<Request>, "entries" | "by"> = {},
): (request: object, response: object, next: Next) => void {
  const terms = limit<Request>(policies, options);
  const take = async (request: object): Promise<void> => {
    const demand = await terms.demand(request);
    await contextOf(request).lease(demand!.policies, { entries: demand!.entries });
  };
  return (request, _response, next) => void take(request).then(() => next(), next);
}

/** Throws where the application's function says no number: to charge a guess would hide the mistake. */
export async function costOf<Request>(cost: Cost<Request>, request: object): Promise<number> {
  const units = wholeUnits(typeof cost === "function" ? await cost(request as Request) : cost);
  if (units === undefined) throw new TypeError("quotad: a cost is no number");
  return units;
}

/** Whole units from 0 that a message can hold, rounded up; undefined for what is no number. */
export function wholeUnits(units: unknown): number | undefined {
  if (typeof units !== "number" || Number.isNaN(units)) return undefined;
  return Math.min(Math.max(0, Math.ceil(units)), 0xffff_ffff);
}
