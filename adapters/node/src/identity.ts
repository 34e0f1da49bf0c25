/**
 * Identity headers: what the application is told about the caller, and what a client must not tell it.
 *
 * Must never: let a spelling of such a header pass that an application could read as it.
 */

import type { IncomingMessage } from "node:http";

import { encode } from "./headers.js";

/** `X_User_Id` is `x-user-id` to an application that knows a header by its letters and digits alone. */
export function spelling(name: string): string {
  return name.toLowerCase().replace(/[^\p{L}\p{N}]/gu, "-");
}

/** Changes a request's headers to what the application may see, in every form in which Node offers them. */
export function reshape(
  request: IncomingMessage,
  added: readonly { name: string; value: string }[],
  removed: Iterable<string>,
): void {
  const barred = new Set([...removed].map(spelling));
  const raw: string[] = [];
  for (let index = 0; index + 1 < request.rawHeaders.length; index += 2) {
    const name = request.rawHeaders[index]!;
    if (!barred.has(spelling(name))) raw.push(name, request.rawHeaders[index + 1]!);
  }
  // Requests of test tools, such as Fastify's inject, have no distinct headers.
  const distinct: NodeJS.Dict<string[]> = request.headersDistinct ?? {};
  for (const headers of [request.headers, distinct]) {
    for (const name of Object.keys(headers)) if (barred.has(spelling(name))) delete headers[name];
  }
  for (const header of added) {
    const [name, value] = encode(header.name, header.value);
    raw.push(name, value);
    request.headers[name] = value;
    distinct[name] = [value];
  }
  request.rawHeaders.splice(0, request.rawHeaders.length, ...raw);
}
