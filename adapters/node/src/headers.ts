/**
 * Response headers: replaced, never doubled.
 *
 * Promise: a name that the service or the adapter sets stands once, whatever the application sent; list headers of several
 * decisions (RateLimit, RateLimit-Policy) are one list.
 */

import { MARK } from "./errors.js";

/** Names in lower case, in order. */
export type Headers = (readonly [name: string, value: string])[];

/** A value replaces, null takes the header away. */
export type Changes = Readonly<Record<string, string | null>>;

/** The service's defaults, for answers that it was not asked about: preflights, skipped paths, outages. */
export const SECURITY: Headers = [
  ["strict-transport-security", "max-age=63072000; includeSubDomains"],
  ["content-security-policy", "default-src 'none'; frame-ancestors 'none'"],
  ["x-content-type-options", "nosniff"],
  ["x-frame-options", "DENY"],
  ["referrer-policy", "strict-origin-when-cross-origin"],
];

const LISTS: readonly string[] = ["ratelimit", "ratelimit-policy"];
export const TELLTALE: readonly string[] = ["server", "x-powered-by", MARK];

export const isList = (name: string): boolean => LISTS.includes(name);

/** A header of the service for Node, which writes latin-1: other letters as the bytes of UTF-8. */
export function encode(name: string, value: string): readonly [string, string] {
  const isLatin = /^[\x00-\xff]*$/.test(value);
  return [name.toLowerCase(), isLatin ? value : Buffer.from(value, "utf8").toString("latin1")];
}

export function values(headers: Headers, name: string): string[] {
  return headers.filter(([other]) => other === name).map(([, value]) => value);
}

/** `headers` with `added` in the place of all of the same names. */
export function replace(headers: Headers, added: Headers): Headers {
  const names = new Set(added.map(([name]) => name));
  return [...headers.filter(([name]) => !names.has(name)), ...added];
}

export function without(headers: Headers, names: Iterable<string>): Headers {
  const barred = new Set(names);
  return headers.filter(([name]) => !barred.has(name));
}

/** The headers of every decision that was taken for one request; a later one replaces, lists grow. */
export function combined(answers: readonly Headers[]): Headers {
  const told = new Map<string, string>();
  for (const [name, value] of answers.flat()) {
    const before = isList(name) ? told.get(name) : undefined;
    told.set(name, before === undefined ? value : `${before}, ${value}`);
  }
  return [...told];
}

export function changed(headers: Headers, changes: Changes): Headers {
  const all = Object.entries(changes).map(([name, value]) => [name.toLowerCase(), value] as const);
  const kept = without(
    headers,
    all.map(([name]) => name),
  );
  return [...kept, ...all.flatMap(([name, value]) => (value === null ? [] : [encode(name, value)]))];
}

/** With Origin in Vary, beside what the application put there, as one header. */
export function varyOrigin(headers: Headers): Headers {
  const fields = values(headers, "vary")
    .flatMap((value) => value.split(","))
    .map((field) => field.trim())
    .filter((field) => field !== "");
  if (!fields.includes("*") && !fields.some((field) => field.toLowerCase() === "origin")) fields.push("Origin");
  return replace(headers, [["vary", fields.join(", ")]]);
}
