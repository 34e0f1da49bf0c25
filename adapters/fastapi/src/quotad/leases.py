"""Leases that this process holds: renewed together, given back, and ended when the service says so.

Promise: one call renews all of them (4,096 at most a call), at the time that the first is due. A holder that dies
renews nothing, so its leases are free again within one TTL.
Must never: keep a socket open whose lease the service calls lost, revoked or expired.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from enum import Enum
from typing import Any

from quotad.client import Client
from quotad.decision import seconds
from quotad.errors import Cause, NoDecision
from quotad.events import Events, LeaseEnded
from quotad.transport import ACQUIRE, RELEASE, RENEW
from quotad.v1 import decision_pb2 as pb

log = logging.getLogger("quotad")

BATCH = 4_096
"""The service's bound on one renewal; its other, 1 MiB, holds for leases of 256 bytes, so bytes are counted too."""
BATCH_BYTES = 900_000
TIMEOUT = 1.0
"""Seconds for calls that no client waits for."""
RETRY = 1.0
"""Seconds until a renewal that got no answer is tried again."""
RELEASES = 64
"""Most releases in flight, when many sockets end at once."""
State = pb.RenewConnectionsResponse


class Ended(Enum):
    """Why a lease is no longer held."""

    RELEASED = "released"
    LOST = "lost"
    REVOKED = "revoked"
    EXPIRED = "expired"


class Lease:
    """One held lease. `connection` is what renews and releases it, as the service gave it."""

    def __init__(self, connection: pb.Connection, on_end: Callable[[Ended], None]) -> None:
        self.connection = connection
        self.on_end = on_end
        self.renew_at = 0.0
        self.ended: Ended | None = None

    @property
    def id(self) -> str:
        return self.connection.lease_id


class Keeper:
    """Of one event loop. `hold` starts the renewals; they end with the last lease."""

    def __init__(self, client: Client, events: Events) -> None:
        self._client = client
        self._events = events
        self._held: dict[str, Lease] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._renewer: asyncio.Task[None] | None = None
        self._sooner = asyncio.Event()
        self._due = 0.0
        self._releases = asyncio.Semaphore(RELEASES)

    def __len__(self) -> int:
        return len(self._held)

    def hold(self, granted: pb.Lease, on_end: Callable[[Ended], None]) -> Lease:
        lease = Lease(granted.connection, on_end)
        lease.renew_at = self._now() + seconds(granted.renew_after)
        self._held[lease.id] = lease
        if lease.renew_at < self._due:
            self._sooner.set()
        if self._renewer is None or self._renewer.done():
            self._renewer = self.spawn(self._renew_all())
        return lease

    def release(self, lease: Lease) -> None:
        """Gives it back, without a wait. Again, or after its end, it does nothing."""
        if lease.ended is None:
            self._end(lease, Ended.RELEASED)
            self.spawn(self._give_back(lease.connection))

    def forget(self, connection: pb.Connection) -> None:
        """Gives back a lease whose grant may have got lost on its way here."""
        self.spawn(self._give_back(connection))

    def end_token(self, issuer: str, subject: str, token_id: str) -> None:
        """Ends what was opened with this token, or with any token of the subject when `token_id` is empty."""
        for lease in list(self._held.values()):
            token = lease.connection.token
            same = (token.issuer, token.subject) == (issuer, subject)
            if same and token.issuer and token_id in ("", token.token_id):
                self.spawn(self._give_back(lease.connection))
                self._end(lease, Ended.REVOKED)

    async def close(self) -> None:
        """Gives everything back; waits for that as long as one call may take."""
        for lease in list(self._held.values()):
            self.release(lease)
        if self._renewer is not None:
            self._renewer.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=2 * TIMEOUT)

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that is not lost: the loop alone would keep only a weak reference to it."""
        task = asyncio.get_running_loop().create_task(work, name="quotad")
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("quotad: a task failed", exc_info=error)

    async def _give_back(self, connection: pb.Connection) -> None:
        async with self._releases:
            try:
                await self._client.call(RELEASE, pb.ReleaseConnectionRequest(connection=connection), TIMEOUT)
            except NoDecision:
                log.info("quotad: a lease was not given back; it ends by itself")

    async def _renew_all(self) -> None:
        while self._held:
            self._sooner.clear()
            self._due = min(lease.renew_at for lease in self._held.values())
            if self._due > self._now():
                await self._wait(self._due - self._now())
                continue
            for batch in batches(list(self._held.values())):
                # What the answer leaves out is asked about again, and not at once.
                for lease in batch:
                    lease.renew_at = self._now() + RETRY
                await self._renew(batch)

    async def _wait(self, timeout: float) -> None:
        try:
            await asyncio.wait_for(self._sooner.wait(), timeout)
        except TimeoutError:
            return

    async def _renew(self, batch: list[Lease]) -> None:
        request = pb.RenewConnectionsRequest(connections=[lease.connection for lease in batch])
        try:
            answer = await self._client.call(RENEW, request, TIMEOUT)
        except NoDecision as error:
            self._not_renewed(batch, error)
            return
        for lease, renewal in zip(batch, answer.renewals, strict=False):
            if lease.ended is None:
                await self._renewed(lease, renewal)

    def _not_renewed(self, batch: list[Lease], error: NoDecision) -> None:
        """Away: the sockets stay open, and who has been away too long finds out at the next renewal."""
        for lease in batch:
            if error.cause in (Cause.AWAY, Cause.UNDECIDED):
                lease.renew_at = self._now() + RETRY
            else:
                self._end(lease, Ended.LOST)

    async def _renewed(self, lease: Lease, renewal: pb.RenewConnectionsResponse.Renewal) -> None:
        match renewal.state:
            case State.STATE_HELD | State.STATE_UNKNOWN:
                lease.renew_at = self._now() + (seconds(renewal.renew_after) or RETRY)
            case State.STATE_REVOKED:
                self._end(lease, Ended.REVOKED)
            case State.STATE_EXPIRED:
                self._end(lease, Ended.EXPIRED)
            case _:
                await self._take_again(lease)

    async def _take_again(self, lease: Lease) -> None:
        """A lease that ran out while nobody answered: the place may still be free."""
        try:
            answer = await self._client.call(ACQUIRE, pb.AcquireConnectionRequest(connection=lease.connection), TIMEOUT)
        except NoDecision as error:
            self._not_renewed([lease], error)
            return
        if lease.ended is not None:
            self.spawn(self._give_back(lease.connection))
        elif answer.HasField("lease"):
            lease.connection = answer.lease.connection
            lease.renew_at = self._now() + seconds(answer.lease.renew_after)
        else:
            revoked = answer.decision.reason == pb.REASON_TOKEN_REVOKED
            self._end(lease, Ended.REVOKED if revoked else Ended.LOST)

    def _end(self, lease: Lease, how: Ended) -> None:
        lease.ended = how
        self._held.pop(lease.id, None)
        self._events.emit(LeaseEnded(how.value))
        lease.on_end(how)

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()


def batches(leases: list[Lease]) -> list[list[Lease]]:
    """As few as the service's bounds allow."""
    cut: list[list[Lease]] = [[]]
    size = 0
    for lease in leases:
        bytes_of_it = lease.connection.ByteSize() + 8
        if len(cut[-1]) == BATCH or size + bytes_of_it > BATCH_BYTES:
            cut.append([])
            size = 0
        cut[-1].append(lease)
        size += bytes_of_it
    return cut
