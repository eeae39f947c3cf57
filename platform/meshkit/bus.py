"""Streams, queues and signals on NATS JetStream, with the rules that keep them safe."""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from types import TracebackType
from typing import Any, Final, Self

from agentmesh.common.v1 import conversation_pb2
from meshkit import bus_reader, bus_wire
from meshkit.bus_blobs import Blobs
from meshkit.bus_consumer import Consumption
from meshkit.bus_delivery import Delivery
from meshkit.bus_follower import Followed, Follower
from meshkit.bus_link import Link
from meshkit.bus_listener import Listener
from meshkit.bus_messages import ConsumerSpec, StoredMessage, StreamSpec
from meshkit.bus_publisher import Publisher, api_error
from meshkit.bus_puller import Puller
from meshkit.bus_subscription import Subscription
from meshkit.errors import DependencyUnavailable
from meshkit.ids import RandomIds
from meshkit.log import Log

__all__ = [
    "Bus",
    "ConsumerSpec",
    "Delivery",
    "Followed",
    "Follower",
    "Listener",
    "Puller",
    "StoredMessage",
    "StreamSpec",
    "Subscription",
]

_NANOSECONDS: Final = 1_000_000_000
_NAME_IN_USE: Final = 10058
_STREAM_NOT_FOUND: Final = 10059


class Bus:
    """One connection to NATS. An async context manager; it reconnects for ever."""

    def __init__(self, link: Link, *, replicas: int, log: Log | None) -> None:
        self._link: Final = link
        self._replicas: Final = replicas
        self._log: Final = log
        self._publisher: Final = Publisher(link, self.read)
        self._blobs: Final = Blobs(self, bus_reader.Leader(link), RandomIds())
        self._consumptions: set[Consumption] = set()

    @classmethod
    async def connect(
        cls, url: str, *, name: str, replicas: int = 1, log: Log | None = None
    ) -> Self:
        """Connects. `replicas`: on how many servers of a cluster streams are kept."""
        return cls(await Link.open(url, name=name, log=log), replicas=replicas, log=log)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection, after what was sent has left."""
        await self._link.close()

    @property
    def name(self) -> str:
        """What health checks call it."""
        return "nats"

    async def check(self) -> None:
        """Raises DependencyUnavailable while there is no connection; asks nobody."""
        if not self._link.is_up:
            raise DependencyUnavailable(
                "There is no connection to NATS.", metadata={"dependency": "nats"}
            )

    def on_reconnect(self, call: Callable[[bool], None]) -> Callable[[], None]:
        """Calls `call` after every reconnect; gives a function that ends that.

        It is told whether the same server is there as before: not where that was
        started anew, or is another one of the cluster. Who asks first is called
        first, and before pullers that are opened later ask for anything.
        """
        return self._link.on_reconnect(lambda: call(self._link.is_same_server))

    async def ensure_stream(self, spec: StreamSpec) -> None:
        """Creates the stream, or updates it to the spec."""
        config = _stream_config(spec, self._replicas)
        answer = await self._link.ask_json(f"$JS.API.STREAM.CREATE.{spec.name}", config)
        if answer.get("error", {}).get("err_code") == _NAME_IN_USE:
            answer = await self._link.ask_json(f"$JS.API.STREAM.UPDATE.{spec.name}", config)
        if "error" in answer:
            raise api_error(answer["error"], f"create stream {spec.name}")

    async def append(
        self,
        subject: str,
        payload: bytes,
        *,
        expected_last: int,
        scope: str | None = None,
        headers: Mapping[str, str] = {},
    ) -> int:
        """Stores a message if nobody else did; the stream sequence.

        Conflict unless the last sequence over `scope` (a subject filter; the
        subject itself where None) is `expected_last`, 0 for none yet. Repeated
        until the server answers, within the caller's deadline; what was stored
        and whose acknowledgement was lost is recognised and counts as stored.
        DependencyUnavailable leaves open whether it was stored.
        """
        return await self._publisher.append(subject, payload, expected_last, scope, headers)

    async def publish(
        self, subject: str, payload: bytes, *, message_id: str, headers: Mapping[str, str] = {}
    ) -> int:
        """Stores a message once per `message_id` within the stream's window; its sequence."""
        return await self._publisher.publish(subject, payload, message_id, headers)

    async def last(self, stream: str, subject_filter: str) -> StoredMessage | None:
        """The last message of all subjects that the filter matches."""
        return await bus_reader.last(self._link, stream, subject_filter)

    async def read(
        self, stream: str, subject_filter: str, *, start_sequence: int = 1, batch: int = 256
    ) -> AsyncGenerator[StoredMessage]:
        """The messages that the filter matches, up to the stream's present end.

        Cheap for one subject, and for a filter with a wildcard at its end alone
        that few subjects match; any other filter reads through all that is stored.
        """
        async with aclosing(
            bus_reader.read(self._link, stream, subject_filter, start_sequence, batch)
        ) as messages:
            async for message in messages:
                yield message

    async def purge(
        self, stream: str, subject_filter: str, *, before_sequence: int | None = None
    ) -> int:
        """Removes the messages that the filter matches; how many they were.

        With `before_sequence` only those that the stream has before that sequence.
        """
        request: dict[str, Any] = {"filter": subject_filter}
        if before_sequence is not None:
            request["seq"] = before_sequence
        answer = await self._link.ask_json(f"$JS.API.STREAM.PURGE.{stream}", request)
        if "error" in answer:
            raise api_error(answer["error"], f"purge {subject_filter}")
        return int(answer.get("purged", 0))

    async def subjects(self, stream: str, subject_filter: str) -> Collection[str]:
        """The subjects that the filter matches and that have messages.

        At most 100,000 of them; none where the stream is missing.
        """
        answer = await self._link.ask_json(
            f"$JS.API.STREAM.INFO.{stream}", {"subjects_filter": subject_filter}
        )
        if answer.get("error", {}).get("err_code") == _STREAM_NOT_FOUND:
            return ()
        if "error" in answer:
            raise api_error(answer["error"], f"look at stream {stream}")
        counts: dict[str, int] = answer["state"].get("subjects") or {}
        return counts.keys()

    async def stream_info(self, stream: str) -> dict[str, Any] | None:
        """The server's word on the stream: its `config` and `state`; None where it is missing."""
        answer = await self._link.ask_json(f"$JS.API.STREAM.INFO.{stream}", {})
        if answer.get("error", {}).get("err_code") == _STREAM_NOT_FOUND:
            return None
        if "error" in answer:
            raise api_error(answer["error"], f"look at stream {stream}")
        return answer

    async def consumer_info(self, stream: str, durable: str) -> dict[str, Any]:
        """What the server says of the consumer, such as `num_pending`, the queue's depth."""
        answer = await self._link.ask_json(f"$JS.API.CONSUMER.INFO.{stream}.{durable}", {})
        if "error" in answer:
            raise api_error(answer["error"], f"look at consumer {durable}")
        return answer

    async def consumers(self, stream: str) -> AsyncGenerator[dict[str, Any]]:
        """What the server says of each of the stream's consumers, in the order of their names."""
        offset = 0
        while True:
            answer = await self._link.ask_json(
                f"$JS.API.CONSUMER.LIST.{stream}", {"offset": offset}
            )
            if "error" in answer:
                raise api_error(answer["error"], f"list the consumers of {stream}")
            for info in answer["consumers"] or ():
                yield info
            offset += len(answer["consumers"] or ())
            if offset >= answer["total"] or not answer["consumers"]:
                return

    async def ensure_consumer(self, spec: ConsumerSpec) -> None:
        """Creates the consumer, or updates it to the spec. `consume` does so by itself."""
        answer = await self._link.ask_json(
            f"$JS.API.CONSUMER.CREATE.{spec.stream}.{spec.durable}", _consumer_config(spec)
        )
        if "error" in answer:
            raise api_error(answer["error"], f"create consumer {spec.durable}")

    async def delete_consumer(self, stream: str, durable: str) -> None:
        """Removes the consumer, if it is there, and with it what it remembers."""
        await self._link.ask_json(f"$JS.API.CONSUMER.DELETE.{stream}.{durable}", {})

    async def consume(
        self, spec: ConsumerSpec, *, max_in_flight: Callable[[], int] | int
    ) -> AsyncGenerator[Delivery]:
        """Deliveries of a durable consumer, for as long as it is iterated.

        At most `max_in_flight` are out: pulled, and neither settled nor expired.
        A limit that is a function is asked again whenever a delivery of this
        bus is settled, and every few seconds.
        """

        def fixed() -> int:
            assert isinstance(max_in_flight, int)
            return max_in_flight

        consumption = Consumption(
            self._link,
            spec,
            set_up=lambda: self.ensure_consumer(spec),
            max_in_flight=max_in_flight if callable(max_in_flight) else fixed,
            settled=self.nudge,
            log=self._log,
        )
        await consumption.open()
        self._consumptions.add(consumption)
        try:
            while True:
                yield await consumption.next()
        finally:
            self._consumptions.discard(consumption)
            await consumption.close()

    async def puller(
        self,
        stream: str,
        *,
        acknowledge_wait_seconds: float,
        deliver: Callable[[Delivery], None],
        ended: Callable[[str, bool], None],
    ) -> Puller:
        """For one who decides itself which consumer to ask, when, and for how many.

        Close it at the end.

        Args:
            stream: Where the consumers are.
            acknowledge_wait_seconds: Theirs.
            deliver: Called for each message.
            ended: Called for each pull that ended before it was used up, with its
                consumer and whether that is missing.
        """
        puller = Puller(self._link, stream, acknowledge_wait_seconds, deliver, ended)
        await puller.open()
        return puller

    def follow(
        self, stream: str, *subject_filters: str, start_sequence: int, window: int
    ) -> Follower:
        """Reads all of a stream in order from a sequence on, and then what comes.

        For one who keeps itself what it has read: it begins anew after every fault.

        Args:
            stream: The stream.
            subject_filters: Which messages; no two may match the same subject.
            start_sequence: The first one, from 1.
            window: How many messages are read ahead at most.
        """
        return Follower(self._link, stream, subject_filters, start_sequence, window)

    def nudge(self) -> None:
        """Has every consumer look again whether it has room; for limits that changed elsewhere."""
        for each in self._consumptions:
            each.nudge()

    async def subscribe(
        self,
        *subjects: str,
        max_waiting: int = 8192,
        raise_on_gap: bool = False,
        confirmed: bool = True,
    ) -> Subscription:
        """Plain messages from now on. Close it at the end.

        Args:
            subjects: Of which messages are wanted.
            max_waiting: How many may wait for the reader.
            raise_on_gap: Whether the reader is told that some may be lost.
            confirmed: Whether the server knows of it when this returns. It always
                does before it sees what this bus sends afterwards.
        """
        subscription = Subscription(
            self._link, subjects, max_waiting=max_waiting, raise_on_gap=raise_on_gap
        )
        await subscription.open(confirmed=confirmed)
        return subscription

    async def listen(
        self, subject: str, hear: Callable[[str], None], *, missed: Callable[[], None]
    ) -> Listener:
        """Calls `hear` with the subject of each signal, and `missed` where some may be lost.

        Close it at the end.
        """
        listener = Listener(self._link, subject, hear, missed)
        await listener.open()
        return listener

    async def signal(
        self, subject: str, payload: bytes, headers: Mapping[str, str] | None = None
    ) -> None:
        """Sends a plain message to whoever listens now. Nobody keeps it."""
        await self._link.tell(subject, payload, bus_wire.head(headers or {}))

    async def ensure_blobs(
        self, *, max_age_seconds: float | None = None, max_bytes: int | None = None
    ) -> None:
        """Creates or updates the bucket of blobs. The first `put_blob` does, without limits."""
        await self._blobs.ensure(max_age_seconds=max_age_seconds, max_bytes=max_bytes)

    async def put_blob(
        self, owner: str, content: bytes, media_type: str
    ) -> conversation_pb2.BlobRef:
        """Stores content under its SHA-256; what `owner` has already is not stored again.

        `owner` is one or more tokens of a subject, such as `acme.t1`.
        """
        return await self._blobs.put(owner, content, media_type)

    async def get_blob(self, owner: str, reference: conversation_pb2.BlobRef) -> bytes:
        """The content; CorruptData where `owner` does not have it, or it is damaged."""
        return await self._blobs.get(owner, reference)

    async def delete_blob(self, owner: str, digest: str) -> None:
        """Removes one content of `owner`, if it is there."""
        await self._blobs.delete(owner, digest)

    async def delete_blobs(self, owner: str) -> None:
        """Removes all content of `owner`. What breaks off is finished by calling it again."""
        await self._blobs.delete_all(owner)


def _stream_config(spec: StreamSpec, replicas: int) -> dict[str, Any]:
    config: dict[str, Any] = {
        "name": spec.name,
        "description": spec.description,
        "subjects": list(spec.subjects),
        "retention": "workqueue" if spec.retention == "work_queue" else "limits",
        "storage": "file",
        "discard": "new" if spec.refuse_when_full else "old",
        "num_replicas": replicas,
        "max_age": round((spec.max_age_seconds or 0) * _NANOSECONDS),
        "max_bytes": spec.max_bytes or -1,
        "max_msgs": -1,
        "max_consumers": spec.max_consumers or -1,
        "max_msgs_per_subject": spec.max_messages_per_subject or -1,
        "duplicate_window": round(spec.duplicate_window_seconds * _NANOSECONDS),
        "allow_direct": spec.allow_direct,
        "allow_rollup_hdrs": spec.allow_rollup,
    }
    if spec.republish is not None:
        config["republish"] = {"src": spec.republish[0], "dest": spec.republish[1]}
    return config


def _consumer_config(spec: ConsumerSpec) -> dict[str, Any]:
    config: dict[str, Any] = {
        "durable_name": spec.durable,
        "name": spec.durable,
        "description": spec.description,
        "deliver_policy": "new" if spec.only_new else "all",
        "ack_policy": "explicit",
        "replay_policy": "instant",
        "filter_subject": spec.subject_filter,
        "ack_wait": round(spec.acknowledge_wait_seconds * _NANOSECONDS),
        "max_deliver": spec.max_deliver,
        "max_ack_pending": spec.max_acknowledge_pending,
    }
    if spec.inactive_seconds is not None:
        config["inactive_threshold"] = round(spec.inactive_seconds * _NANOSECONDS)
    return {"stream_name": spec.stream, "config": config}
