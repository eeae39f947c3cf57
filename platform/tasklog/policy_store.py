"""The policy in force, kept on JetStream and followed by every coordinator and executor."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from agentmesh.coordinator.v1.queue_service_pb2 import QueuePolicy
from meshkit.bus import Bus, StreamSpec
from meshkit.errors import Conflict, MeshError
from tasklog.policy import Policy, built_in, check, policy_of

_STREAM: Final = "POLICY"
_SUBJECT: Final = "policy.queues"
_LIVE: Final = f"live.{_SUBJECT}"
# What is published again after storing is not guaranteed to arrive.
_LOOK_AFTER_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 1.0


class PolicyStore:
    """Reads, writes and follows the policy. Safe to share within one event loop."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._current = policy_of(built_in())
        self._listeners: list[Callable[[], None]] = []

    @property
    def current(self) -> Policy:
        """The newest policy that this process has heard of."""
        return self._current

    def on_change(self, listener: Callable[[], None]) -> None:
        """Has `listener` called whenever the policy has changed."""
        self._listeners.append(listener)

    async def prepare(self) -> None:
        """Creates the stream, and reads what is there."""
        await self._bus.ensure_stream(
            StreamSpec(
                name=_STREAM,
                subjects=(_SUBJECT,),
                max_messages_per_subject=64,
                republish=(_SUBJECT, _LIVE),
                description="Limits of lanes and tenants; the last message is in force.",
            )
        )
        await self.refresh()

    async def refresh(self) -> Policy:
        """Reads the policy that is stored now."""
        message = await self._bus.last(_STREAM, _SUBJECT)
        if message is not None:
            self._take(message.payload, message.sequence)
        return self._current

    async def set(self, policy: QueuePolicy) -> Policy:
        """Puts `policy` in force.

        Raises:
            InvalidField: It cannot be worked with.
            Conflict: Its etag is not that of the policy in force.
        """
        check(policy)
        before = await self._bus.last(_STREAM, _SUBJECT)
        sequence = before.sequence if before else 0
        if policy.etag and policy.etag != str(sequence):
            raise Conflict(
                f"The policy has changed: its etag is {str(sequence)!r}, not {policy.etag!r}."
                " Read it again, and apply your change to that."
            )
        stored = QueuePolicy()
        stored.CopyFrom(policy)
        stored.ClearField("etag")
        payload = stored.SerializeToString(deterministic=True)
        self._take(payload, await self._bus.append(_SUBJECT, payload, expected_last=sequence))
        return self._current

    async def follow(self) -> None:
        """Keeps `current` up to date until cancelled."""
        while True:
            with contextlib.suppress(MeshError):
                live = await self._bus.subscribe(_LIVE)
                try:
                    while True:
                        await self.refresh()
                        with contextlib.suppress(TimeoutError):
                            await asyncio.wait_for(anext(live), _LOOK_AFTER_SECONDS)
                finally:
                    await live.close()
            await asyncio.sleep(_AGAIN_SECONDS)

    def _take(self, payload: bytes, sequence: int) -> None:
        message = QueuePolicy.FromString(payload)
        message.etag = str(sequence)
        if message != self._current.message:
            self._current = policy_of(message)
            for listener in self._listeners:
                listener()
