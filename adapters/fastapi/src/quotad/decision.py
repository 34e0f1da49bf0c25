"""A decision as the application sees it: the service's answer, copied, never computed anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from quotad.v1 import decision_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration

Headers = list[tuple[bytes, bytes]]
"""As in ASGI: names in lower case, in order."""


@dataclass(frozen=True, slots=True)
class PolicyStatus:
    """What one policy said. `window`, `reset_after` in seconds."""

    policy: str
    limit: int
    remaining: int
    window: float | None
    reset_after: float
    violated: bool
    shadow: bool
    mode: str
    is_concurrency: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """`status`, `headers`, `body` are ready to send; `retry_after` is exact, in seconds; None: waiting cannot help."""

    allowed: bool
    reason: str
    mode: str
    status: int
    headers: Headers = field(default_factory=list)
    content_type: str = ""
    body: bytes = b""
    retry_after: float | None = None
    statuses: Sequence[PolicyStatus] = ()
    is_secured: bool = False
    """Whether `headers` hold the service's security headers, as those of `Authorize` do."""
    reservation: pb.Reservation | None = field(default=None, repr=False, compare=False)
    """What settles the charge, where the request was to be settled later. For nobody else's eyes."""

    @classmethod
    def read(cls, answer: pb.Decision, *, is_secured: bool = False) -> Decision:
        """The service's answer. An outcome that this version does not know is a denial."""
        return cls(
            allowed=answer.outcome == pb.OUTCOME_ALLOW,
            reason=enum_name(pb.Reason, answer.reason, "REASON_"),
            mode=enum_name(pb.Mode, answer.mode, "MODE_"),
            status=answer.http_status,
            headers=[encode(header.name, header.value) for header in answer.headers],
            content_type=answer.body.content_type,
            body=answer.body.content,
            retry_after=seconds(answer.retry_after) if answer.HasField("retry_after") else None,
            statuses=[status_of(status) for status in answer.statuses],
            is_secured=is_secured,
            reservation=answer.reservation if answer.HasField("reservation") else None,
        )

    def __bool__(self) -> bool:
        return self.allowed


def status_of(status: pb.PolicyStatus) -> PolicyStatus:
    return PolicyStatus(
        policy=status.policy,
        limit=status.limit,
        remaining=status.remaining,
        window=seconds(status.window) if status.HasField("window") else None,
        reset_after=seconds(status.reset_after),
        violated=status.violated,
        shadow=status.shadow,
        mode=enum_name(pb.Mode, status.mode, "MODE_"),
        is_concurrency=status.algorithm == pb.ALGORITHM_CONCURRENCY,
    )


def seconds(duration: Duration) -> float:
    return duration.seconds + duration.nanos / 1_000_000_000


def encode(name: str, value: str) -> tuple[bytes, bytes]:
    """A header for ASGI. What latin-1 cannot say is escaped as in UTF-8, which is what HTTP makes of it."""
    try:
        return name.lower().encode("latin-1"), value.encode("latin-1")
    except UnicodeEncodeError:
        return name.lower().encode(), value.encode()


def enum_name(enum: type[pb.Reason] | type[pb.Mode], number: int, prefix: str) -> str:
    """`limit_exceeded` for REASON_LIMIT_EXCEEDED; the number itself for one that came later than this version."""
    try:
        return enum.Name(number).removeprefix(prefix).lower()
    except ValueError:
        return str(number)
