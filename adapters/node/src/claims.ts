/** The token that the service found good. */

import type { Claims__Output, TokenReference } from "./rpc.js";

/** Names of RFC 7519. Times are seconds since 1970; `all` has every claim as in the token's JSON. */
export interface Claims {
  readonly issuer: string;
  readonly subject: string;
  readonly tokenId: string;
  readonly audience: readonly string[];
  readonly issuedAt: number | undefined;
  readonly expiresAt: number;
  readonly all: Readonly<Record<string, unknown>>;
  /** The entry `user` of this token: with several issuers it is not the subject alone. */
  readonly user: string;
  /** What a renewal and a revocation need of it. */
  readonly reference: TokenReference;
}

export function readClaims(claims: Claims__Output): Claims {
  return {
    issuer: claims.issuer,
    subject: claims.subject,
    tokenId: claims.tokenId,
    audience: claims.audience,
    issuedAt: claims.issuedAt?.seconds,
    expiresAt: claims.expiresAt?.seconds ?? 0,
    all: claims.all ? plainStruct(claims.all) : {},
    user: claims.user,
    reference: {
      issuer: claims.issuer,
      subject: claims.subject,
      tokenId: claims.tokenId,
      issuedAt: claims.issuedAt,
      expiresAt: claims.expiresAt,
    },
  };
}

/** `user`, and `claim:NAME` for every claim that is a text, a number or a truth value. */
export function claimEntries(claims: Claims): Record<string, string> {
  const entries: Record<string, string> = {};
  for (const [name, value] of Object.entries(claims.all)) {
    if (["string", "number", "boolean"].includes(typeof value)) entries[`claim:${name}`] = String(value);
  }
  const user = claims.user === "" ? claims.subject : claims.user;
  if (user !== "") entries["user"] = user;
  return entries;
}

interface Value {
  kind?: string;
  numberValue?: number;
  stringValue?: string;
  boolValue?: boolean;
  structValue?: Struct | null;
  listValue?: { values: Value[] } | null;
}
interface Struct {
  fields: Record<string, Value>;
}

/** A `google.protobuf.Struct` as the object that it stands for. */
function plainStruct(struct: Struct): Record<string, unknown> {
  // fromEntries makes own properties of any name, `__proto__` too.
  return Object.fromEntries(Object.entries(struct.fields).map(([name, value]) => [name, plain(value)]));
}

function plain(value: Value): unknown {
  switch (value.kind) {
    case "structValue":
      return value.structValue ? plainStruct(value.structValue) : {};
    case "listValue":
      return value.listValue?.values.map(plain) ?? [];
    case "numberValue":
      return value.numberValue;
    case "stringValue":
      return value.stringValue;
    case "boolValue":
      return value.boolValue;
    default:
      return null;
  }
}
