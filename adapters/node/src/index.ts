/**
 * quotad for Node: limits, tokens, connection leases, headers and CORS by one small server.
 *
 * `quotad/express` and `quotad/fastify` have the middleware and the plugin, `quotad/cookies`, `quotad/types` and
 * `quotad/testing` what their names say. Nothing here computes a limit: decisions, headers and bodies are the service's.
 */

export type { Claims } from "./claims.js";
export { Context, contextOf } from "./context.js";
export type { CheckOptions, HeldLease } from "./context.js";
export type { Decision, PolicyStatus } from "./decision.js";
export { ConfigurationError, NoDecision, RateLimitExceeded } from "./errors.js";
export type { BreakerChanged, Decided, LeaseEnded, QuotadEvent, Settled, Unavailable } from "./events.js";
export { hold, limit } from "./limit.js";
export type { Limit, LimitOptions, RequestLike } from "./limit.js";
export { local } from "./local.js";
export type { Messages, OnUnavailable, Rule } from "./rules.js";
export type { Options, Refusal } from "./settings.js";
export { Shield } from "./shield.js";
export type { SocketServer } from "./sockets.js";
