/**
 * CORS by environment, and the Origin of WebSocket handshakes, which CORS does not cover.
 *
 * Promise: outside development an origin is allowed only by being in the list, letter by letter; there is no pattern, no
 * reflection, no `null`. A list that cannot be meant so is an error while the application is put together.
 */

import { ConfigurationError } from "./errors.js";
import { varyOrigin, without } from "./headers.js";
import type { Headers } from "./headers.js";

const EXPOSED = "RateLimit, RateLimit-Policy, Retry-After";
const METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE";
const REQUEST_HEADERS = "Accept, Accept-Language, Authorization, Content-Type, X-CSRF-Token, X-Request-ID";
const MAX_AGE_SECONDS = 600;
const ORIGIN = /^https:\/\/[a-z0-9.-]+(:[0-9]{1,5})?$/;

export type Environment = "development" | "staging" | "production";
const ENVIRONMENTS: readonly string[] = ["development", "staging", "production"];

/** Not set is production: who forgets it must not be open for it. */
export function readEnvironment(text: string): Environment {
  const read = (text === "" ? "production" : text).trim().toLowerCase();
  if (!ENVIRONMENTS.includes(read)) {
    throw new ConfigurationError(`environment ${JSON.stringify(text)} is none of ${ENVIRONMENTS.join(", ")}`);
  }
  return read as Environment;
}

/** Which origins may read answers: `any` is for development, `none` where no page of another origin uses the API. */
export type Origins = { kind: "any" } | { kind: "none" } | { kind: "list"; list: ReadonlySet<string> };

export class Cors {
  constructor(
    readonly origins: Origins,
    private readonly credentials: boolean,
  ) {}

  get isOff(): boolean {
    return this.origins.kind === "none";
  }

  allows(origin: string): boolean {
    return this.origins.kind === "any" || (this.origins.kind === "list" && this.origins.list.has(origin));
  }

  /** The answer's headers. An origin that is not allowed gets none of them, and no error. */
  preflight(origin: string): Headers {
    const headers = this.dress([], origin);
    if (!this.allows(origin)) return headers;
    return [
      ...without(headers, ["access-control-expose-headers"]),
      ["access-control-allow-methods", METHODS],
      ["access-control-allow-headers", REQUEST_HEADERS],
      ["access-control-max-age", String(MAX_AGE_SECONDS)],
    ];
  }

  /** `headers` with ours in the place of any CORS header that the application set itself. */
  dress(headers: Headers, origin: string | undefined): Headers {
    const rest = headers.filter(([name]) => !name.startsWith("access-control-"));
    if (this.isOff) return rest;
    const dressed = varyOrigin(rest);
    if (origin === undefined || !this.allows(origin)) return dressed;
    if (this.origins.kind === "any") {
      dressed.push(["access-control-allow-origin", "*"]);
    } else {
      dressed.push(["access-control-allow-origin", origin]);
      if (this.credentials) dressed.push(["access-control-allow-credentials", "true"]);
    }
    dressed.push(["access-control-expose-headers", EXPOSED]);
    return dressed;
  }
}

/** Throws `ConfigurationError` for a list that is empty, or holds what cannot be meant. */
export function corsFor(environment: Environment, origins: readonly string[], credentials: boolean): Cors {
  if (environment === "development") return new Cors({ kind: "any" }, false);
  if (origins.length === 0) {
    throw new ConfigurationError(
      `no allowed origins in ${environment}: set ALLOWED_ORIGINS=https://app.example.com (commas between several), ` +
        'or cors: "off" when no browser page of another origin uses this API',
    );
  }
  for (const origin of origins) {
    if (!ORIGIN.test(origin)) {
      throw new ConfigurationError(`allowed origin ${JSON.stringify(origin)} in ${environment}: ${mistake(origin)}`);
    }
  }
  return new Cors({ kind: "list", list: new Set(origins) }, credentials);
}

function mistake(origin: string): string {
  if (origin === "*") return "`*` lets every page in; write each origin";
  if (origin === "null") return "`null` is the origin of sandboxed frames and files of anybody";
  if (origin.endsWith("/")) return "browsers send origins without a trailing slash; it would never match";
  if (origin.startsWith("http://")) return "plain http; anybody on the way can be that origin";
  return "not an origin; write https://HOST or https://HOST:PORT in lower case, nothing else";
}
