"""Tells what was recorded: each alert once, whatever dies in between, and whoever else tells.

The stream decides what is told. A message is only stored behind the one that was the last when
the teller looked, so that two who tell at once cannot both succeed; the one who was too late
looks again, and finds there what the other told. In this way a crash between telling and taking
note of it is made good, too.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing, suppress
from typing import Final, NamedTuple, Protocol

from meshkit.bus import Bus
from meshkit.errors import Conflict, MeshError
from meshkit.log import Log
from meshkit.time_limit import within
from services.governor import alert_stream
from services.governor.alert import Alert

_BATCH: Final = 64
_RETRY_SECONDS: Final = 1.0
# What another process recorded and did not live to tell is told after this.
_LOOK_AFTER_SECONDS: Final = 30.0
# The server stores no two messages of one id within a while.
_MESSAGE_ID: Final = "Nats-Msg-Id"


class Told(NamedTuple):
    """An alert and its place in the stream."""

    alert: Alert
    sequence: int


class AlertStore(Protocol):
    """Where alerts are recorded. All methods raise DependencyUnavailable while it is away."""

    async def untold(self, limit: int) -> Sequence[Alert]:
        """The first found of those that are yet to be told."""
        ...

    async def last_sequence(self) -> int:
        """The highest sequence of all that are told, 0 for none."""
        ...

    async def mark(self, told: Sequence[Told]) -> None:
        """Takes note of alerts that are told; adds those that are not there."""
        ...


class AlertTeller:
    """Carries alerts from the store to the stream."""

    def __init__(self, bus: Bus, store: AlertStore, log: Log) -> None:
        self._bus: Final = bus
        self._store: Final = store
        self._log: Final = log
        self._wake: Final = asyncio.Event()

    def wake(self) -> None:
        """Has it look for what was recorded."""
        self._wake.set()

    async def run(self) -> None:
        """Runs until cancelled, whatever fails."""
        while True:
            self._wake.clear()
            try:
                await self.tell()
            except MeshError as error:
                self._log.error("alert.telling_failed", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            with suppress(TimeoutError), within(_LOOK_AFTER_SECONDS):
                await self._wake.wait()

    async def tell(self) -> None:
        """Tells all that is recorded.

        Raises:
            DependencyUnavailable: The broker or the store is away. Repeating it is safe.
        """
        while await self._store.untold(1):
            tail = await self.catch_up()
            # Without those that this has found to be told.
            for alert in await self._store.untold(_BATCH):
                try:
                    tail = await self._bus.append(
                        alert_stream.subject(alert.tenant),
                        alert_stream.encode(alert),
                        expected_last=tail,
                        scope=alert_stream.ALL,
                        headers={_MESSAGE_ID: alert.id},
                    )
                except Conflict:
                    break
                self._note(alert, tail)
                await self._store.mark([Told(alert, tail)])

    async def catch_up(self) -> int:
        """Takes note of what the stream has and the store does not know; the last sequence.

        A ledger that was lost and is built anew learns in this way what it must not tell
        again.

        Raises:
            DependencyUnavailable: The broker or the store is away.
        """
        known = await self._store.last_sequence()
        last = await self._bus.last(alert_stream.STREAM, alert_stream.ALL)
        tail = last.sequence if last else 0
        if tail < known and await self._has_lost(known):
            # A broker that has lost its messages begins with 1 again. Readers who have
            # seen more would miss all that comes until then, so it goes on from there.
            await self._bus.purge(alert_stream.STREAM, ">", before_sequence=known + 1)
            return 0
        told: list[Told] = []
        async with aclosing(
            self._bus.read(alert_stream.STREAM, alert_stream.ALL, start_sequence=known + 1)
        ) as messages:
            async for message in messages:
                tail = message.sequence
                # One of a later version is for others to know.
                with suppress(ValueError):
                    alert = alert_stream.alert_of(alert_stream.decode(message))
                    told.append(Told(alert, message.sequence))
        await self._store.mark(told)
        return tail

    async def _has_lost(self, sequence: int) -> bool:
        # Any replica says which message is the last, and one may be behind; how far the stream has
        # come says its leader, also where all messages are too old to be kept.
        info = await self._bus.stream_info(alert_stream.STREAM)
        return info is None or int(info["state"]["last_seq"]) < sequence

    def _note(self, alert: Alert, sequence: int) -> None:
        self._log.warning(
            "alert",
            kind=str(alert.kind),
            tenant=alert.tenant,
            budget=alert.budget,
            text=alert.text,
            spent_micros=alert.spent_micros,
            limit_micros=alert.limit_micros,
            id=alert.id,
            sequence=sequence,
        )
