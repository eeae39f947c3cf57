"""Channels that are made anew, and what becomes of those before them."""

from typing import Any, Final, cast

import grpc

from meshkit.renewed_channel import RenewedChannel
from meshtest.eventually import eventually

_SHUTDOWN: Final = grpc.ChannelConnectivity.SHUTDOWN
_NOBODY: Final = "127.0.0.1:1"


class _Renewed:
    """Credentials that a test renews."""

    def __init__(self) -> None:
        self.credentials = grpc.ssl_channel_credentials()

    def renew(self) -> None:
        self.credentials = grpc.ssl_channel_credentials()


class _Maker:
    """Makes channels, and remembers them."""

    def __init__(self) -> None:
        self.made: list[grpc.aio.Channel] = []

    def __call__(self, credentials: grpc.ChannelCredentials) -> grpc.aio.Channel:
        self.made.append(grpc.aio.secure_channel(_NOBODY, credentials))
        return self.made[-1]


async def test_the_channel_before_is_closed_after_its_time() -> None:
    """There is one channel while nothing is renewed, and in the end one again."""
    tls, make = _Renewed(), _Maker()
    channel = RenewedChannel(make, tls, retired_seconds=0.05)
    for _ in range(3):
        assert channel.get_state() is not _SHUTDOWN
    assert len(make.made) == 1
    tls.renew()
    assert channel.get_state() is not _SHUTDOWN
    first, second = make.made
    assert first.get_state() is not _SHUTDOWN
    await eventually(lambda: first.get_state() is _SHUTDOWN)
    assert second.get_state() is not _SHUTDOWN
    await channel.close()
    assert second.get_state() is _SHUTDOWN


async def test_closing_it_closes_those_that_are_retired() -> None:
    """A process that ends waits for none of them."""
    tls, make = _Renewed(), _Maker()
    async with RenewedChannel(make, tls) as channel:
        call: Any = cast(Any, channel).unary_unary("/a.A/Say")
        for _ in range(2):
            tls.renew()
            call(b"", timeout=60).cancel()
        assert len(make.made) == 3
        assert all(each.get_state() is not _SHUTDOWN for each in make.made)
    assert all(each.get_state() is _SHUTDOWN for each in make.made)
