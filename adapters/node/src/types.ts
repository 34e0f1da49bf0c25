/**
 * Text types for zod (an optional peer).
 *
 * They trim, bring text to one form (NFC) and refuse what has no place in a name or a title: control, bidirectional and
 * invisible characters, and the beginning of a tag. What they do not do: make text safe to put into a page, a query or a
 * shell. Escape on output, bind parameters, keep a Content-Security-Policy. Never use them for passwords.
 */

import { z } from "zod";

const TAG = /<[A-Za-z/!?]/;
const SLUG = /^[a-z0-9]+(?:-[a-z0-9]+)*$/;
const LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?";
const HOST = new RegExp(`^(?=.{1,253}$)${LABEL}(?:\\.${LABEL})+$`, "i");
/** White space of Unicode, control characters of that kind too. */
const SPACE = "[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]+";
const EDGES = new RegExp(`^${SPACE}|${SPACE}$`, "g");
/** Zero-width joiners are invisible, and needed: by Persian and Indian scripts, and in emoji. */
const JOINERS = /[\u200c\u200d]/g;
/** Control, format (bidirectional, zero-width), surrogate, private and unassigned characters, line separators. */
const INVISIBLE = /[\p{C}\p{Zl}\p{Zp}]/u;
const NAME = /^[\p{L}\p{M} '’.\-·,\u200c\u200d]*$/u;
const URL_LETTERS = /^[!#-;=?-[\]_a-z~]*$/;

/** Trimmed and in NFC, so that lengths are those of what is kept. */
const tidied = (text: string): string => text.normalize("NFC").replace(EDGES, "");
/** In code points, as people count letters. */
const within = (longest: number) => (text: string) => text !== "" && [...text].length <= longest;
const isVisible = (text: string): boolean => !INVISIBLE.test(text.replace(JOINERS, ""));
const hasNoMarkup = (text: string): boolean => !TAG.test(text);

const text = (longest: number) =>
  z.string().transform(tidied).refine(within(longest), `text has 1 to ${longest} characters`);

/** One line: a title, a subject. */
export const plainText = text(255)
  .refine(isVisible, "text with control or invisible characters is not accepted here")
  .refine(hasNoMarkup, "text with markup is not accepted here");

/** Several lines, tabs included: a comment, a description. */
export const multilineText = text(10_000)
  .transform((lines) => lines.replaceAll("\r\n", "\n"))
  .refine(
    (lines) => isVisible(lines.replace(/[\n\t]/g, "")),
    "text with control or invisible characters is not accepted here",
  )
  .refine(hasNoMarkup, "text with markup is not accepted here");

/** What somebody is called: letters of any script, marks, spaces and what stands between names. */
export const personName = text(100)
  .refine((name) => /\p{L}/u.test(name), "a name has a letter")
  .refine((name) => NAME.test(name), "a name has letters, spaces, apostrophes, hyphens and dots");

/** `my-room-7`: what stands in a path. */
export const slugText = text(64).refine(
  (slug) => SLUG.test(slug),
  "a slug is small letters, digits and single hyphens",
);

/**
 * An https URL to somebody's page: a host name with a dot, no user, no address. Whoever fetches it must look at the address
 * that the name has then.
 */
export const safeUrl = text(2_048)
  .refine((url) => URL_LETTERS.test(url), "a URL has no spaces, quotes or letters beyond ASCII")
  .refine((url) => url.startsWith("https://"), "only https:// is accepted here")
  .refine(hasHostName, "a URL has a host name, no user and no address");

function hasHostName(url: string): boolean {
  const read = /^https:\/\/([^/?#@:]*)(?::(\d*))?(?:[/?#].*)?$/.exec(url);
  if (read === null) return false;
  const [, host = "", port] = read;
  const isPort = port === undefined || port === "" || (Number(port) > 0 && Number(port) <= 65_535);
  return isPort && HOST.test(host) && !/(?:^|\.)\d+$/.test(host);
}
