"""Streams of the broker, saved and restored by its own API for that.

Key-values and object stores are streams, too. The broker gives a stream as it stands, while
others write to it; what it gives is its files, which another broker of its version or a later
one takes in.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

import nats
from nats.errors import Error as NatsError

from backup.manifest import Consumer, Stream
from meshkit.time_limit import within

_CHUNK_BYTES: Final = 256 * 1024
_CONNECT_SECONDS: Final = 5.0
_ANSWER_SECONDS: Final = 30.0
# The broker looks at every message before it gives the first, and after it took the last.
_WHOLE_SECONDS: Final = 600.0
_AT_ONCE: Final = 32
# With which a snapshot ends that is whole.
_AT_ITS_END: Final = "204"
# What the broker adds to a configuration by itself.
_OWN_METADATA: Final = "_nats."


class BrokerRefused(Exception):
    """The broker says why."""


class Sink(Protocol):
    """Where the files of a stream go."""

    def write(self, data: bytes) -> None: ...


class Broker:
    """One connection to the broker's API. Use `connected`."""

    def __init__(self, client: Any) -> None:
        self._client: Final = client

    @property
    def version(self) -> str:
        """The server's."""
        found = self._client.connected_server_version
        return f"{found.major}.{found.minor}.{found.patch}"

    async def ask(
        self, what: str, request: Mapping[str, Any], *, seconds: float = _ANSWER_SECONDS
    ) -> dict[str, Any]:
        """One request to JetStream's API.

        Raises:
            BrokerRefused: The broker does not do it, or does not answer in time.
        """
        try:
            answer = await self._client.request(
                f"$JS.API.{what}", json.dumps(request).encode(), timeout=seconds
            )
        except (NatsError, OSError, TimeoutError) as error:
            raise BrokerRefused(f"no answer to {what}: {error or type(error).__name__}") from None
        values: dict[str, Any] = json.loads(answer.data)
        if "error" in values:
            raise BrokerRefused(str(values["error"].get("description", values["error"])))
        return values

    async def stream_names(self) -> Sequence[str]:
        """Of all streams, in the order of their names."""
        names: list[str] = []
        while True:
            answer = await self.ask("STREAM.NAMES", {"offset": len(names)})
            page: list[str] = answer.get("streams") or []
            names += page
            if not page or len(names) >= int(answer["total"]):
                return sorted(names)

    async def consumers(self, stream: str) -> Sequence[Consumer]:
        """Those of a stream that outlive their readers, and how far they are."""
        found: list[Consumer] = []
        offset = 0
        while True:
            answer = await self.ask(f"CONSUMER.LIST.{stream}", {"offset": offset})
            page: list[dict[str, Any]] = answer.get("consumers") or []
            offset += len(page)
            found += [
                Consumer(_plain(info["config"]), int(info["ack_floor"]["stream_seq"]))
                for info in page
                if "durable_name" in info["config"]
            ]
            if not page or offset >= int(answer["total"]):
                return found

    async def save(self, name: str, member: str, sink: Sink) -> Stream:
        """Writes all of a stream to `sink`, and says what it was at the beginning.

        How far readers are is asked first: what they finish meanwhile comes to them again,
        and nothing that is saved as open counts as done. Who reads for the first time
        meanwhile begins at the beginning.
        """
        before = {each.config["durable_name"]: each for each in await self.consumers(name)}
        inbox = self._client.new_inbox()
        subscription = await self._client.subscribe(
            inbox, pending_msgs_limit=-1, pending_bytes_limit=-1
        )
        try:
            # Positions of readers in the snapshot would be those of its end: see above. Only
            # who wants what is new cannot be put anywhere else.
            request = {
                "deliver_subject": inbox,
                "no_consumers": not any(map(_wants_new, before.values())),
                "chunk_size": _CHUNK_BYTES,
                "jsck": True,
            }
            began = await self.ask(f"STREAM.SNAPSHOT.{name}", request, seconds=_WHOLE_SECONDS)
            await self._take(subscription, sink)
        finally:
            await subscription.unsubscribe()
        after = [
            Consumer(each.config, 0)
            for each in await self.consumers(name)
            if each.config["durable_name"] not in before
        ]
        return Stream(
            name, member, _plain(began["config"]), began["state"], [*before.values(), *after]
        )

    async def restore(self, stream: Stream, chunks: Iterable[bytes]) -> dict[str, Any]:
        """Makes the stream with all that it had, without its consumers; its state."""
        request = {"config": dict(stream.config), "state": dict(stream.state)}
        answer = await self.ask(f"STREAM.RESTORE.{stream.name}", request)
        subject = answer["deliver_subject"]
        try:
            for chunk in _portions(chunks):
                taken = await self._client.request(subject, chunk, timeout=_ANSWER_SECONDS)
                _refuse_errors(taken.data)
            made = await self._client.request(subject, b"", timeout=_WHOLE_SECONDS)
        except (NatsError, OSError, TimeoutError) as error:
            raise BrokerRefused(f"no answer: {error or type(error).__name__}") from None
        return _refuse_errors(made.data)["state"]

    async def restore_consumers(self, stream: Stream) -> None:
        """Lets everybody go on reading where they were."""
        slots = asyncio.Semaphore(_AT_ONCE)
        last = int((await self.ask(f"STREAM.INFO.{stream.name}", {}))["state"]["last_seq"])
        there = {
            each.config["durable_name"]: each.acknowledged
            for each in await self.consumers(stream.name)
        }

        async def restore(consumer: Consumer) -> None:
            name = consumer.config["durable_name"]
            place = f"{stream.name}.{name}"
            async with slots:
                if _wants_new(consumer) and name in there:
                    if there[name] <= last:
                        return
                    # It had messages that came too late for the snapshot.
                    await self.ask(f"CONSUMER.DELETE.{place}", {})
                request = {"stream_name": stream.name, "config": dict(consumer.config)}
                await self.ask(f"CONSUMER.CREATE.{place}", request)
                if consumer.acknowledged and not _wants_new(consumer):
                    # The configuration stays as its owner will ask for it. A broker that does
                    # not know this yet begins at the beginning: slower, and as right.
                    with contextlib.suppress(BrokerRefused):
                        await self.ask(
                            f"CONSUMER.RESET.{place}", {"seq": consumer.acknowledged + 1}
                        )

        await asyncio.gather(*(restore(each) for each in stream.consumers))

    async def _take(self, subscription: Any, sink: Sink) -> None:
        """The chunks of a snapshot, each acknowledged, so that the broker never runs ahead."""
        while True:
            try:
                chunk = await subscription.next_msg(timeout=_WHOLE_SECONDS)
            except (NatsError, OSError, TimeoutError):
                raise BrokerRefused("it stopped in the middle") from None
            if not chunk.data:
                said: Mapping[str, str] = chunk.headers or {}
                if said.get("Status", _AT_ITS_END) != _AT_ITS_END:
                    raise BrokerRefused(f"it stopped: {' '.join(said.values())}")
                return
            await asyncio.to_thread(sink.write, chunk.data)
            if chunk.reply:
                await self._client.publish(chunk.reply, b"")


@asynccontextmanager
async def connected(url: str) -> AsyncGenerator[Broker]:
    """A connection for as long as the block lasts. Raises BrokerRefused."""
    # What breaks off is begun anew, as a whole.
    options: dict[str, Any] = {"name": "backup", "allow_reconnect": False}
    try:
        with within(_CONNECT_SECONDS):
            client: Any = await nats.connect(  # pyright: ignore[reportUnknownMemberType]
                url, **options
            )
    except (NatsError, OSError, TimeoutError) as error:
        raise BrokerRefused(f"no connection: {error or type(error).__name__}") from None
    try:
        yield Broker(client)
    finally:
        await client.close()


def _wants_new(consumer: Consumer) -> bool:
    return consumer.config.get("deliver_policy") == "new"


def _plain(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as it was asked for."""
    kept = dict(config)
    own: dict[str, str] = kept.pop("metadata", None) or {}
    metadata = {key: value for key, value in own.items() if not key.startswith(_OWN_METADATA)}
    return {**kept, **({"metadata": metadata} if metadata else {})}


def _portions(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same in messages that every broker takes."""
    for chunk in chunks:
        for at in range(0, len(chunk), _CHUNK_BYTES):
            yield chunk[at : at + _CHUNK_BYTES]


def _refuse_errors(answer: bytes) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(answer) if answer else {}
    if "error" in values:
        raise BrokerRefused(str(values["error"].get("description", values["error"])))
    return values
