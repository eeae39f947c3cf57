"""The policy in force, kept on JetStream and followed by every coordinator and executor."""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

from agentmesh.coordinator.v1.queue_service_pb2 import QueuePolicy
from meshkit.bus import Bus, StreamSpec
from meshkit.errors import Conflict, MeshError
from meshkit.time_limit import within
from tasklog.policy import Policy, built_in, check, policy_of

_STREAM: Final = "POLICY"
_SUBJECT: Final = "policy.queues"
_LIVE: Final = f"live.{_SUBJECT}"
# What is published again after storing is not guaranteed to arrive.
_LOOK_AFTER_SECONDS: Final = 30.0
_AGAIN_SECONDS: Final = 1.0
# A change without an etag meets others: each turn loses to at most one of them.
_SET_TURNS: Final = 20


class PolicyStore:
    """Reads, writes and follows the policy. Safe to share within one event loop."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._current = policy_of(built_in())
        # Where it stands in the stream; 0 for the built-in one.
        self._sequence = 0
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
        if message is None:
            return self._current
        return self._take(message.payload, message.sequence)

    async def set(self, policy: QueuePolicy) -> Policy:
        """Puts `policy` in force. Safe to repeat.

        Raises:
            InvalidField: It cannot be worked with.
            Conflict: Its etag is not that of the policy in force, or others
                changed the policy so often that this change found no gap.
        """
        check(policy)
        stored = QueuePolicy()
        stored.CopyFrom(policy)
        stored.ClearField("etag")
        payload = stored.SerializeToString(deterministic=True)
        for _ in range(_SET_TURNS):
            policy_set = await self._try_to_set(payload, policy.etag)
            if policy_set is not None:
                return policy_set
        raise Conflict("The policy is being changed by too many at once. Try again.")

    async def _try_to_set(self, payload: bytes, etag: str) -> Policy | None:
        """None where somebody else wrote at the same moment."""
        before = await self._bus.last(_STREAM, _SUBJECT)
        sequence = before.sequence if before else 0
        if before is not None and before.payload == payload:
            # An answer that was lost, or a change that changes nothing.
            return self._take(payload, sequence)
        if etag and etag != str(sequence):
            raise Conflict(
                f"The policy has changed: its etag is {str(sequence)!r}, not {etag!r}."
                " Read it again, and apply your change to that."
            )
        with contextlib.suppress(Conflict):
            return self._take(
                payload, await self._bus.append(_SUBJECT, payload, expected_last=sequence)
            )
        return None

    async def follow(self) -> None:
        """Keeps `current` up to date until cancelled."""
        while True:
            with contextlib.suppress(MeshError):
                live = await self._bus.subscribe(_LIVE, raise_on_gap=True)
                try:
                    while True:
                        await self.refresh()
                        # Not wait_for: until Python 3.12 it takes no cancel that comes with
                        # what it waits for.
                        with contextlib.suppress(TimeoutError), within(_LOOK_AFTER_SECONDS):
                            await anext(live)
                finally:
                    await live.close()
            await asyncio.sleep(_AGAIN_SECONDS)

    def _take(self, payload: bytes, sequence: int) -> Policy:
        # What was read earlier may come to this point later.
        if sequence > self._sequence:
            self._sequence = sequence
            message = QueuePolicy.FromString(payload)
            message.etag = str(sequence)
            self._current = policy_of(message)
            for listener in self._listeners:
                listener()
        return self._current
