/**
 * The client's address: the same walk as the service's, for checks that the application asks for itself.
 *
 * The leftmost entry of X-Forwarded-For is what the client wrote. It is believed only when every hop to its right is a
 * trusted proxy.
 */

import { BlockList, isIP, isIPv4, isIPv6 } from "node:net";

import { ConfigurationError } from "./errors.js";

/** Ranges that may say who the client is. */
export class Networks {
  private readonly list = new BlockList();
  /** Whether one of them is everybody. */
  readonly trustsEverybody: boolean;
  readonly isEmpty: boolean;

  constructor(texts: readonly string[]) {
    this.isEmpty = texts.length === 0;
    this.trustsEverybody = texts.some((text) => /\/0+$/.test(text));
    for (const text of texts) this.add(text);
  }

  contains(address: string): boolean {
    return this.list.check(address, isIPv4(address) ? "ipv4" : "ipv6");
  }

  /** A CIDR range as written. Bits outside it are a mistake, as in the service. */
  private add(text: string): void {
    const [address = "", bits, ...more] = text.split("/");
    const family = isIP(address);
    const width = family === 4 ? 32 : 128;
    const length = bits === undefined ? width : /^\d{1,3}$/.test(bits) ? Number(bits) : -1;
    if (family === 0 || more.length > 0 || length < 0 || length > width || hostBits(address, length) !== 0n) {
      throw new ConfigurationError(
        `trustedProxies: ${JSON.stringify(text)} is no network; write 10.0.0.0/8 or one address`,
      );
    }
    this.list.addSubnet(address, length, family === 4 ? "ipv4" : "ipv6");
  }
}

function hostBits(address: string, length: number): bigint {
  const width = isIPv4(address) ? 32 : 128;
  return number(address) & ((1n << BigInt(width - length)) - 1n);
}

function number(address: string): bigint {
  if (isIPv4(address)) return address.split(".").reduce((sum, part) => (sum << 8n) | BigInt(part), 0n);
  return groups(address).reduce((sum, group) => (sum << 16n) | BigInt(group), 0n);
}

/** The eight groups of an IPv6 address, without its zone. */
function groups(address: string): number[] {
  let text = address.replace(/%.*$/, "");
  const dotted = /^(.*:)(\d+)\.(\d+)\.(\d+)\.(\d+)$/.exec(text);
  if (dotted) {
    const [a, b, c, d] = dotted.slice(2).map(Number) as [number, number, number, number];
    text = `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  }
  const [head = "", tail] = text.split("::");
  const read = (part: string): number[] => (part === "" ? [] : part.split(":").map((group) => parseInt(group, 16)));
  const left = read(head);
  if (tail === undefined) return left;
  const right = read(tail);
  return [...left, ...Array<number>(8 - left.length - right.length).fill(0), ...right];
}

/** An address with or without brackets and port; undefined for anything else. IPv4 in IPv6 is IPv4. */
export function parseAddress(text: string): string | undefined {
  const trimmed = text.trim();
  const colon = trimmed.lastIndexOf(":");
  for (const candidate of [trimmed, colon === -1 ? "" : trimmed.slice(0, colon)]) {
    const address = candidate.replace(/^\[/, "").replace(/\]$/, "");
    if (isIPv4(address)) return address;
    if (isIPv6(address)) return unmapped(address);
  }
  return undefined;
}

function unmapped(address: string): string {
  const all = groups(address);
  const isMapped = all.slice(0, 5).every((group) => group === 0) && all[5] === 0xffff;
  if (!isMapped) return address.replace(/%.*$/, "").toLowerCase();
  const [high, low] = all.slice(6) as [number, number];
  return [high >> 8, high & 255, low >> 8, low & 255].join(".");
}

/** `forwardedFor`: the values of the header, in order. Undefined: the peer has no address, as on a unix socket. */
export function clientAddress(peer: string, forwardedFor: readonly string[], trusted: Networks): string | undefined {
  let client = parseAddress(peer);
  if (client === undefined) return undefined;
  for (const entry of forwardedFor.flatMap((value) => value.split(",")).reverse()) {
    if (!trusted.contains(client)) break;
    const following = parseAddress(entry);
    if (following === undefined) break;
    client = following;
  }
  return client;
}

/** What one subscriber holds: an IPv4 address, a /64 of IPv6. */
export function subscriber(address: string): string {
  if (isIPv4(address)) return address;
  const prefix = groups(address)
    .slice(0, 4)
    .map((group) => group.toString(16));
  return `${prefix.join(":")}::/64`;
}
