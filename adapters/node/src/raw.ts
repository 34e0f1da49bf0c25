/** Answers on a bare connection: to refused handshakes, and to what never becomes a request. */

import { STATUS_CODES } from "node:http";
import type { Server } from "node:http";
import type { Duplex } from "node:stream";

import type { Decision } from "./decision.js";
import { changed, replace, SECURITY } from "./headers.js";
import type { Headers } from "./headers.js";
import type { Refusal, Settings } from "./settings.js";

/** One response, and the end of the connection. */
export function respond(transport: Duplex, headers: Headers, { status, body }: Refusal): void {
  if (transport.destroyed || !transport.writable) return;
  const lines = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ""}`,
    ...headers.map(([name, value]) => `${name}: ${value.replace(/[\r\n]/g, "")}`),
    `content-length: ${Buffer.byteLength(body)}`,
    "connection: close",
  ];
  transport.write(`${lines.join("\r\n")}\r\n\r\n`, "latin1");
  transport.end(body);
  // Reads to the end, so that the close is seen and the transport goes.
  transport.resume();
}

const attached = new WeakSet<Server>();

/** Gives what Node's parser refuses (431, 400, 408) the form of the other refusals; by itself it has no headers at all. */
export function answerClientErrors(server: Server, settings: Settings): void {
  if (attached.has(server)) return;
  attached.add(server);
  server.prependListener("clientError", (error: NodeJS.ErrnoException, transport: Duplex) => {
    const { _httpMessage: current } = transport as { _httpMessage?: { headersSent: boolean } | null };
    // In the middle of another response nothing can be said.
    if (error.code === "ECONNRESET" || !transport.writable || current?.headersSent === true) {
      transport.destroy();
      return;
    }
    const decision = refusalOf(error, settings);
    const told = replace(SECURITY, [...decision.headers, ["content-type", decision.contentType]]);
    const headers = settings.cors.dress(changed(told, settings.changes), undefined);
    respond(transport, headers, decision);
  });
}

function refusalOf({ code }: NodeJS.ErrnoException, { bodies }: Settings): Decision {
  if (code === "HPE_HEADER_OVERFLOW") return bodies.tooLarge();
  if (code === "ERR_HTTP_REQUEST_TIMEOUT") return bodies.timeout();
  return bodies.malformed();
}
