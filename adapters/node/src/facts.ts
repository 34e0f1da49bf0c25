/** A request as the service wants it. Nothing is left out that a policy could look at, and nothing is interpreted. */

import type { IncomingMessage } from "node:http";

import { clientAddress, parseAddress } from "./address.js";
import type { Networks } from "./address.js";
import type { Headers } from "./headers.js";
import type { Notices } from "./notices.js";
import type { AuthorizeRequest } from "./rpc.js";

const MAX_HEADERS = 256;
/** The service takes 64 KiB a request. More than this is answered 431 here, so that size can buy no unchecked pass. */
const MAX_HEADER_BYTES = 48 * 1024;
const PLAIN = /^[\x21-\x22\x24-\x7e]*$/;

/** One request: Node's own, and what it said at first, before anybody changed it. */
export class Facts {
  readonly target: string;
  readonly headers: Headers;

  constructor(readonly request: IncomingMessage) {
    this.target = (request as { originalUrl?: string }).originalUrl ?? request.url ?? "/";
    this.headers = rawHeaders(request);
  }

  get method(): string {
    return this.request.method ?? "GET";
  }

  /** Without the query. */
  get path(): string {
    return this.target.split("?", 1)[0]!;
  }

  get origin(): string | undefined {
    return this.request.headers.origin;
  }

  get isPreflight(): boolean {
    return (
      this.method === "OPTIONS" &&
      this.origin !== undefined &&
      this.request.headers["access-control-request-method"] !== undefined
    );
  }

  get fits(): boolean {
    const size = this.headers.reduce((sum, [name, value]) => sum + name.length + value.length + 16, this.target.length);
    return this.headers.length <= MAX_HEADERS && size <= MAX_HEADER_BYTES;
  }

  /**
   * Whether all read the same path in the target: `/path?query` in ASCII. Routers cut `http://HOST` and what follows a
   * `#`, and trim some letters beyond ASCII, each in its own way, so that one could be judged and another one served.
   * Servers get no such target from an honest client.
   */
  get isPlain(): boolean {
    return PLAIN.test(this.target) && (this.target.startsWith("/") || this.target === "*");
  }

  /** Empty when there is no address: a unix socket. */
  get peer(): string {
    return parseAddress(this.request.socket.remoteAddress ?? "") ?? "";
  }

  get isEncrypted(): boolean {
    return (this.request.socket as { encrypted?: boolean }).encrypted === true;
  }

  http(): AuthorizeRequest["http"] {
    return {
      method: this.method,
      scheme: this.isEncrypted ? "https" : "http",
      host: this.request.headers.host ?? "",
      path: this.target,
      peerAddress: this.peer,
      headers: this.headers.map(([name, value]) => ({ name, value })),
    };
  }

  /** The client's address for a check that the application asks for; empty when there is none. */
  client(trusted: Networks, notices: Notices): string {
    const forwarded = this.headers.filter(([name]) => name === "x-forwarded-for").map(([, value]) => value);
    if (forwarded.length > 0 && trusted.isEmpty) {
      notices.once("W101", "X-Forwarded-For came, and trustedProxies is empty: every client counts as the proxy");
    }
    const address = clientAddress(this.peer, forwarded, trusted);
    if (address === undefined) {
      notices.once("W104", "a request without a client address: policies by `ip` refuse it");
    }
    return address ?? "";
  }
}

function rawHeaders(request: IncomingMessage): Headers {
  const headers: Headers = [];
  for (let index = 0; index + 1 < request.rawHeaders.length; index += 2) {
    headers.push([request.rawHeaders[index]!.toLowerCase(), request.rawHeaders[index + 1]!]);
  }
  return headers;
}
