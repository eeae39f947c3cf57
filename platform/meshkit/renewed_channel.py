"""A channel that is made anew when the certificates that it was made with are replaced."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

import grpc

from meshkit.constants import MAX_CONNECTION_AGE_GRACE_SECONDS

# By then servers themselves have ended what began on a channel's connections.
_RETIRED_SECONDS: Final = float(MAX_CONNECTION_AGE_GRACE_SECONDS)


class Credentials(Protocol):
    """Where the newest credentials come from."""

    @property
    def credentials(self) -> grpc.ChannelCredentials:
        """The same object until there are others."""
        ...


class RenewedChannel(grpc.aio.Channel):
    """Passes calls on to a channel of the newest certificates.

    Connections that are there are not verified again, so calls in flight end where they
    began; the channel before is closed when they have.
    """

    def __init__(
        self,
        make: Callable[[grpc.ChannelCredentials], grpc.aio.Channel],
        tls: Credentials,
        *,
        retired_seconds: float = _RETIRED_SECONDS,
    ) -> None:
        """Made within the event loop.

        `make`: a channel with these credentials. `retired_seconds`: for calls that are under
        way on the channel before, until it is closed.
        """
        self._retired_seconds: Final = retired_seconds
        self._make: Final = make
        self._tls: Final = tls
        self._credentials = tls.credentials
        self._raw = make(self._credentials)
        self._retired: dict[grpc.aio.Channel, asyncio.TimerHandle] = {}
        self._closing: set[asyncio.Task[None]] = set()

    def unary_unary(self, method: Any, *arguments: Any, **options: Any) -> Any:
        """As of any channel."""
        return self._calls(lambda raw: raw.unary_unary(method, *arguments, **options))

    def unary_stream(self, method: Any, *arguments: Any, **options: Any) -> Any:
        """As of any channel."""
        return self._calls(lambda raw: raw.unary_stream(method, *arguments, **options))

    def stream_unary(self, method: Any, *arguments: Any, **options: Any) -> Any:
        """As of any channel."""
        return self._calls(lambda raw: raw.stream_unary(method, *arguments, **options))

    def stream_stream(self, method: Any, *arguments: Any, **options: Any) -> Any:
        """As of any channel."""
        return self._calls(lambda raw: raw.stream_stream(method, *arguments, **options))

    async def close(self, grace: float | None = None) -> None:
        """Ends the channel, and those before it; calls in flight get `grace` seconds."""
        retired = tuple(self._retired)
        for timer in self._retired.values():
            timer.cancel()
        self._retired.clear()
        await asyncio.gather(*(each.close(grace) for each in (self._raw, *retired)))
        await asyncio.gather(*self._closing)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Whether the channel is connected."""
        return self._newest().get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Returns when the state is another one."""
        await self._newest().wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Returns when the channel is connected."""
        await self._newest().channel_ready()

    async def __aenter__(self) -> "RenewedChannel":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def _calls(self, bind: Callable[[grpc.aio.Channel], Any]) -> Callable[..., Any]:
        raw = self._raw
        call = bind(raw)

        def begin(*arguments: Any, **options: Any) -> Any:
            nonlocal raw, call
            newest = self._newest()
            if newest is not raw:
                raw, call = newest, bind(newest)
            return call(*arguments, **options)

        return begin

    def _newest(self) -> grpc.aio.Channel:
        credentials = self._tls.credentials
        if credentials is not self._credentials:
            self._retire(self._raw)
            self._credentials = credentials
            self._raw = self._make(credentials)
        return self._raw

    def _retire(self, raw: grpc.aio.Channel) -> None:
        loop = asyncio.get_running_loop()
        self._retired[raw] = loop.call_later(self._retired_seconds, self._close_retired, raw)

    def _close_retired(self, raw: grpc.aio.Channel) -> None:
        del self._retired[raw]
        task = asyncio.get_running_loop().create_task(raw.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
