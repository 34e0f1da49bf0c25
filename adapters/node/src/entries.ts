/**
 * The facts of a request for a check that the application asks for: the names that quotad's configuration knows.
 *
 * They are sent, not judged. What is beyond the service's bounds is left out, and a policy that needs it refuses.
 */

const MAX_ENTRIES = 32;
const MAX_BYTES = 256;

export type Entries = Readonly<Record<string, string>>;

/** The request's own facts, then the caller's, which replace. Claims give way where there are too many. */
export function joinEntries(own: Entries, given: Entries): Record<string, string> {
  const kept = Object.entries(own).filter(([name, value]) => value !== "" && isShort(name) && isShort(value));
  let surplus = new Set([...kept.map(([name]) => name), ...Object.keys(given)]).size - MAX_ENTRIES;
  const left = kept.reverse().filter(([name]) => {
    const gives = surplus > 0 && name.startsWith("claim:") && !(name in given);
    if (gives) surplus -= 1;
    return !gives;
  });
  return { ...Object.fromEntries(left.reverse()), ...given };
}

/** Facts that `Authorize` finds by itself, so that an entry of that name would have no effect there. */
export function isOwnFact(name: string): boolean {
  return /^(ip|user|method|host|path|route|(header|cookie|query|claim):.*)$/s.test(name);
}

function isShort(text: string): boolean {
  return Buffer.byteLength(text) <= MAX_BYTES && !/[\x00-\x1f\x7f]/.test(text);
}
