/**
 * Cookies for refresh tokens and sessions, and logging out.
 *
 * Promise: a cookie is HttpOnly, SameSite=Strict and Secure, and it is deleted by the attributes that it was set with;
 * browsers keep what is deleted by others.
 */

import type { IncomingHttpHeaders } from "node:http";

import type { Claims } from "./claims.js";
import { contextOf } from "./context.js";
import { readEnvironment } from "./cors.js";
import { ConfigurationError } from "./errors.js";
import type { RevokeTokenRequest } from "./rpc.js";
import { REVOKE_MS } from "./shield.js";

const NAME = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;
const PREFIX = /^__(host|secure|http)-/i;
const VALUE = /^[!#-+\--:<-[\]-~]*$/;
const PATH = /^\/[!-:<-~]*$/;
const MAX_BYTES = 4096;

export interface CookieOptions {
  /** A week by itself. */
  maxAgeSeconds?: number;
  /** `/` by itself. */
  path?: string;
  /** `lax`: for who comes back from another site, such as by OAuth; strict cookies do not come on that first navigation. */
  sameSite?: "strict" | "lax";
  /** Default: production. In development it has no prefix and is not Secure, so that http works. */
  environment?: string;
}

/** Express's and Node's response, or Fastify's reply. */
export type Responding =
  | { appendHeader(name: string, value: string): unknown }
  | { raw: object; header(name: string, value: string): unknown };

/**
 * `new SessionCookie("refresh_token")` is `__Host-refresh_token` for the whole host. With a `path` other than `/` the prefix
 * is `__Secure-`: `__Host-` wants `Path=/`. Neither has a Domain, so no other host of the site gets it.
 */
export class SessionCookie {
  /** As the browser sends it, so the name to read it by. */
  readonly fullName: string;
  private readonly attributes: string;
  private readonly maxAgeSeconds: number;

  constructor(
    readonly name: string,
    { maxAgeSeconds = 7 * 24 * 3_600, path = "/", sameSite = "strict", environment = "production" }: CookieOptions = {},
  ) {
    const quoted = `cookie ${JSON.stringify(name)}`;
    if (!NAME.test(name) || PREFIX.test(name)) {
      throw new ConfigurationError(`${quoted}: a name of letters, digits, - and _, without a prefix`);
    }
    if (!PATH.test(path)) {
      throw new ConfigurationError(`${quoted}: path ${JSON.stringify(path)} does not begin with / or has a \`;\``);
    }
    if (sameSite !== "strict" && sameSite !== "lax") {
      throw new ConfigurationError(`${quoted}: sameSite is strict or lax`);
    }
    if (!Number.isInteger(maxAgeSeconds)) throw new ConfigurationError(`${quoted}: maxAgeSeconds is a whole number`);
    const isSecure = readEnvironment(environment) !== "development";
    this.maxAgeSeconds = maxAgeSeconds;
    this.fullName = isSecure ? `${path === "/" ? "__Host-" : "__Secure-"}${name}` : name;
    const site = sameSite === "strict" ? "Strict" : "Lax";
    this.attributes = `; Path=${path}; HttpOnly${isSecure ? "; Secure" : ""}; SameSite=${site}`;
  }

  /** Adds the header to a response of Express or Node, or to a reply of Fastify. */
  set(response: Responding, value: string): void {
    if (!VALUE.test(value)) {
      throw new RangeError(
        `cookie ${JSON.stringify(this.name)}: the value has letters that a cookie cannot hold; encode it`,
      );
    }
    if (this.fullName.length + value.length > MAX_BYTES) {
      throw new RangeError(`cookie ${JSON.stringify(this.name)}: browsers drop more than ${MAX_BYTES} bytes`);
    }
    append(response, this.header(value, this.maxAgeSeconds));
  }

  delete(response: Responding): void {
    append(response, this.header("", 0));
  }

  /** The value of a request. It is not checked: hand it to who made it. */
  read(request: { headers: IncomingHttpHeaders }): string | undefined {
    for (const pair of (request.headers.cookie ?? "").split(";")) {
      const [name, ...value] = pair.trim().split("=");
      if (name === this.fullName && value.length > 0) return value.join("=");
    }
    return undefined;
  }

  header(value: string, maxAgeSeconds: number): string {
    return `${this.fullName}=${value}; Max-Age=${maxAgeSeconds}${this.attributes}`;
  }
}

function append(response: Responding, value: string): void {
  if ("appendHeader" in response) response.appendHeader("set-cookie", value);
  // Fastify keeps several cookies apart by itself.
  else response.header("set-cookie", value);
}

export interface LogoutOptions {
  cookie?: SessionCookie;
  /** All that was issued to the subject. */
  everywhere?: boolean;
}

/**
 * Revokes the token of this request, deletes the cookie, and ends the sockets that the token holds in this process at once;
 * other processes learn it at their next renewal.
 *
 * Throws `NoDecision` when the service cannot keep the revocation: an answer that says "logged out" would be false.
 */
export async function logout(
  request: object,
  response: Responding,
  { cookie, everywhere = false }: LogoutOptions = {},
): Promise<void> {
  const context = contextOf(request);
  const claims = context.requireClaims();
  const bySubject = everywhere || claims.tokenId === "";
  const { client, keeper } = context.runtime;
  await client.call("RevokeToken", revocation(claims, bySubject), REVOKE_MS);
  keeper.endToken(claims.issuer, claims.subject, bySubject ? "" : claims.tokenId);
  cookie?.delete(response);
}

function revocation({ issuer, subject, tokenId, reference }: Claims, bySubject: boolean): RevokeTokenRequest {
  if (bySubject) return { subject: { issuer, subject } };
  return { tokenId: { issuer, id: tokenId, expiresAt: reference.expiresAt } };
}
