"""The token that the service found good."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict

from quotad.v1 import decision_pb2 as pb


@dataclass(frozen=True, slots=True)
class Claims:
    """Names of RFC 7519. Times are seconds since 1970; `all` has every claim as in the token's JSON."""

    issuer: str
    subject: str
    user: str
    """The entry `user` for this token; with several issuers it is not the subject alone."""
    token_id: str
    audience: tuple[str, ...]
    issued_at: int | None
    expires_at: int
    all: Mapping[str, Any]
    reference: pb.TokenReference
    """What a renewal and a revocation need of it."""

    @classmethod
    def read(cls, claims: pb.Claims) -> Claims:
        reference = pb.TokenReference(
            issuer=claims.issuer,
            subject=claims.subject,
            token_id=claims.token_id,
            issued_at=claims.issued_at if claims.HasField("issued_at") else None,
            expires_at=claims.expires_at,
        )
        return cls(
            issuer=claims.issuer,
            subject=claims.subject,
            user=claims.user,
            token_id=claims.token_id,
            audience=tuple(claims.audience),
            issued_at=claims.issued_at.seconds if claims.HasField("issued_at") else None,
            expires_at=claims.expires_at.seconds,
            all=MessageToDict(claims.all),
            reference=reference,
        )

    def entries(self) -> dict[str, str]:
        """`user`, and `claim:NAME` for every claim that is a text, a number or a truth value."""
        entries = {f"claim:{name}": text for name, value in self.all.items() if (text := claim_text(value)) is not None}
        if self.user:
            entries["user"] = self.user
        return entries


def claim_text(value: object) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case float() if value.is_integer():
            return str(int(value))
        case float() | int():
            return str(value)
        case str():
            return value
        case _:
            return None
