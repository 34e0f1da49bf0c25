/** Settings as written and as meant. What would be unsafe or without effect throws before a request comes. */

import type { IncomingMessage } from "node:http";

import type { ChannelCredentials } from "@grpc/grpc-js";

import { Networks } from "./address.js";
import { Bodies } from "./bodies.js";
import type { Cors, Environment } from "./cors.js";
import { Cors as CorsOf, corsFor, readEnvironment } from "./cors.js";
import type { Decision } from "./decision.js";
import { ConfigurationError } from "./errors.js";
import type { QuotadEvent } from "./events.js";
import type { Changes } from "./headers.js";
import { Notices } from "./notices.js";
import type { Warn } from "./notices.js";
import type { Transport } from "./rpc.js";
import { readChoice, Rules } from "./rules.js";
import type { OnUnavailable, Rule } from "./rules.js";
import { checkTarget } from "./transport.js";

/** In the place of a decision's own. */
export interface Refusal {
  status: number;
  body: string | Buffer;
  contentType: string;
}

/** README.md has an example of each. */
export interface Options {
  /** development, staging or production. Default: the variable ENVIRONMENT; not set is production. */
  environment?: string;
  /** Who may read answers and open sockets from a browser. Default: ALLOWED_ORIGINS, commas between. */
  origins?: readonly string[];
  /** off: no page of another origin uses this API. */
  cors?: "on" | "off";
  /** Whether allowed origins may send cookies. Never in development. */
  corsCredentials?: boolean;
  rules?: readonly Rule[];
  /** Without an answer, where no rule says otherwise. Default closed: an unchecked token is not a good one. */
  onUnavailable?: OnUnavailable;
  /** False: no `Authorize` by the service's routes; only what the application asks for itself is checked. */
  authorize?: boolean;
  /** Of policies and routes. Default: each route's own; `default` for checks. */
  domain?: string;
  /** How long a decision may take. Default 50. */
  deadlineMs?: number;
  /** Changes on every answer, over the service's: a value replaces, null takes away. */
  securityHeaders?: Changes;
  /** Names for which the application's own value stands, where it sends one. */
  keepHeaders?: readonly string[];
  /** Names that clients may not send while the service cannot say which. Default x-user-id, as in the service. */
  identityHeaders?: readonly string[];
  /** For checks by `ip` that the application asks for. Routes use the service's own list. */
  trustedProxies?: readonly string[];
  /** Makes the body of refusals. */
  error?: (request: IncomingMessage, decision: Decision) => Refusal | Promise<Refusal>;
  /** Of the few answers that are given without the service; as `http.error_body` there. */
  errorBody?: "uniform" | "problem";
  /** A close code: refused sockets are accepted and closed, which a browser's script can tell apart. Default: HTTP. */
  acceptThenClose?: number;
  /** How often sockets are pinged; one that does not answer until the next time is ended. Default 20,000; 0: never. */
  pingMs?: number;
  onEvent?: (event: QuotadEvent) => void;
  /** Takes the warnings. Default: console.warn. */
  warn?: Warn;
  credentials?: ChannelCredentials;
  /** Plain text to another machine, inside a network that encrypts by itself. */
  insecure?: boolean;
  /** In the place of gRPC: the fake of `quotad/testing`. */
  transport?: Transport;
}

const NAMES: Readonly<Record<keyof Options, true>> = {
  environment: true,
  origins: true,
  cors: true,
  corsCredentials: true,
  rules: true,
  onUnavailable: true,
  authorize: true,
  domain: true,
  deadlineMs: true,
  securityHeaders: true,
  keepHeaders: true,
  identityHeaders: true,
  trustedProxies: true,
  error: true,
  errorBody: true,
  acceptThenClose: true,
  pingMs: true,
  onEvent: true,
  warn: true,
  credentials: true,
  insecure: true,
  transport: true,
};
export const OPTION_NAMES: readonly string[] = Object.keys(NAMES);

/** As meant: checked, with defaults. */
export interface Settings {
  readonly target: string;
  readonly environment: Environment;
  readonly cors: Cors;
  readonly rules: Rules;
  readonly onUnavailable: OnUnavailable;
  readonly authorize: boolean;
  readonly domain: string;
  readonly deadlineMs: number;
  readonly changes: Changes;
  readonly keep: ReadonlySet<string>;
  readonly identity: readonly string[];
  readonly trusted: Networks;
  readonly error: Options["error"];
  readonly bodies: Bodies;
  readonly acceptThenClose: number | undefined;
  readonly pingMs: number;
  readonly onEvent: Options["onEvent"];
  readonly credentials: ChannelCredentials | undefined;
  readonly transport: Transport | undefined;
  readonly notices: Notices;
}

export function readSettings(target: string, options: Options): Settings {
  const unknown = Object.keys(options).filter((name) => !OPTION_NAMES.includes(name));
  if (unknown.length > 0) throw new ConfigurationError(`no setting ${unknown.sort().join(", ")}`);
  const { credentials, transport, cors = "on", errorBody = "uniform" } = options;
  oneOf("cors", cors, ["on", "off"]);
  oneOf("errorBody", errorBody, ["uniform", "problem"]);
  const environment = readEnvironment(options.environment ?? process.env["ENVIRONMENT"] ?? "");
  if (credentials === undefined && transport === undefined) checkTarget(target, options.insecure ?? false);
  const notices = new Notices(options.warn ?? ((text) => console.warn(text)));
  const trusted = new Networks(options.trustedProxies ?? []);
  if (trusted.trustsEverybody) {
    notices.once("W102", "trustedProxies trusts everybody: any client can choose its own address");
  }
  const onUnavailable = readChoice(options.onUnavailable ?? "closed");
  if (onUnavailable === "open") {
    notices.once("W109", "onUnavailable is open: without an answer no token is checked either");
  }
  return {
    target,
    environment,
    cors: readCors(environment, options),
    rules: new Rules(options.rules ?? []),
    onUnavailable,
    authorize: options.authorize ?? true,
    domain: options.domain ?? "",
    deadlineMs: atLeast("deadlineMs", options.deadlineMs ?? 50, 1),
    changes: options.securityHeaders ?? {},
    keep: new Set((options.keepHeaders ?? []).map((name) => name.toLowerCase())),
    identity: (options.identityHeaders ?? ["x-user-id"]).map((name) => name.toLowerCase()),
    trusted,
    error: options.error,
    bodies: new Bodies(errorBody),
    acceptThenClose: options.acceptThenClose,
    pingMs: atLeast("pingMs", options.pingMs ?? 20_000, 0),
    onEvent: options.onEvent,
    credentials,
    transport,
    notices,
  };
}

function readCors(environment: Environment, options: Options): Cors {
  if (options.cors === "off") return new CorsOf({ kind: "none" }, false);
  if (options.origins !== undefined && !Array.isArray(options.origins)) {
    throw new ConfigurationError("origins is one text; write a list");
  }
  const written = process.env["ALLOWED_ORIGINS"] ?? "";
  const origins =
    options.origins ??
    written
      .split(",")
      .map((one) => one.trim())
      .filter((one) => one !== "");
  return corsFor(environment, origins, options.corsCredentials ?? true);
}

function oneOf(name: string, value: string, known: readonly string[]): void {
  if (!known.includes(value)) {
    throw new ConfigurationError(`${name} ${JSON.stringify(value)}: write ${known.join(" or ")}`);
  }
}

function atLeast(name: string, value: number, least: number): number {
  if (!(value >= least)) throw new ConfigurationError(`${name} ${value} is below ${least}`);
  return value;
}
