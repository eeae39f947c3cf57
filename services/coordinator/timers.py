"""Timers that the broker keeps: what is not due is refused, and delivered again when it is."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final

from google.protobuf.message import DecodeError

from meshkit import deadline
from meshkit.bus import Bus, ConsumerSpec, Delivery
from meshkit.clock import Clock
from meshkit.errors import CorruptData, MeshError
from meshkit.log import Log

# How many are attended to at a time in this process.
_IN_FLIGHT: Final = 64
# A process that dies leaves what it held to another one after this long.
ACKNOWLEDGE_WAIT_SECONDS: Final = 10.0
# Shorter than that, so that nobody works on what another one has been given.
_TIME_LIMIT_SECONDS: Final = 8.0
# A clock that jumped costs this much at most.
LONGEST_DELAY_SECONDS: Final = 3600.0
# After a failure that may pass by itself, and after a fault of ours.
_AGAIN_SECONDS: Final = 5.0
_MUCH_LATER_SECONDS: Final = 60.0

# Acts on a delivery; when to look at it again, or None once all is done. It is
# called as often as the broker likes, in several processes at once.
Attend = Callable[[Delivery], Awaitable[datetime | None]]


def unlimited(stream: str, durable: str, subject_filter: str, description: str) -> ConsumerSpec:
    """A consumer that holds any number of timers."""
    return ConsumerSpec(
        stream=stream,
        durable=durable,
        subject_filter=subject_filter,
        acknowledge_wait_seconds=ACKNOWLEDGE_WAIT_SECONDS,
        max_acknowledge_pending=-1,
        description=description,
    )


class Timers:
    """The timers of one consumer, which all processes of a service share."""

    def __init__(
        self, bus: Bus, spec: ConsumerSpec, attend: Attend, *, clock: Clock, log: Log
    ) -> None:
        self._bus = bus
        self._spec = spec
        self._attend = attend
        self._clock = clock
        self._log = log

    async def run(self) -> None:
        """Attends to every delivery until cancelled."""
        async with asyncio.TaskGroup() as group:
            async for delivery in self._bus.consume(self._spec, max_in_flight=_IN_FLIGHT):
                group.create_task(self._settle(delivery))

    async def _settle(self, delivery: Delivery) -> None:
        # What cannot be settled is delivered again by itself.
        with contextlib.suppress(MeshError):
            try:
                delay_seconds = await self._delay_seconds(delivery)
            except asyncio.CancelledError:
                await delivery.not_now(0)
                raise
            except (CorruptData, DecodeError) as error:
                self._log.error("control.unreadable", subject=delivery.subject, cause=str(error))
                await delivery.reject()
            else:
                if delay_seconds is None:
                    await delivery.acknowledge()
                else:
                    await delivery.not_now(delay_seconds)

    async def _delay_seconds(self, delivery: Delivery) -> float | None:
        try:
            with deadline.limit(_TIME_LIMIT_SECONDS):
                again = await self._attend(delivery)
        except (CorruptData, DecodeError):
            raise
        except MeshError as error:
            self._log.warning("control.failed", subject=delivery.subject, cause=error.message)
            return _AGAIN_SECONDS
        except Exception:
            self._log.exception("control.fault", subject=delivery.subject)
            return _MUCH_LATER_SECONDS
        if again is None:
            return None
        left_seconds = (again - self._clock.now()).total_seconds()
        return min(max(left_seconds, 0.0), LONGEST_DELAY_SECONDS)
