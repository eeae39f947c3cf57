"""Calls that tests make over channels of ours, and what is left of them."""

import asyncio
from typing import Any, Final, cast

import grpc
import pytest

from meshwire import kinds
from meshwire.channel import Reach, WireChannel

UNSEEN: Final = (("unseen", "1"),)


def reach(**changes: Any) -> Reach:
    """One that gives a busy machine time."""
    return Reach(most_message_bytes=1 << 20, unseen=UNSEEN, **{"connect_seconds": 30, **changes})


def say(channel: WireChannel, **named: Any) -> Any:
    """A call with one message each way."""
    return kinds.method(channel, "unary_unary")(b"", **{"timeout": 60, **named})


async def failure(call: Any) -> grpc.aio.AioRpcError:
    """What it fails with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(call, 60)
    return caught.value


def nothing_is_left(channel: WireChannel) -> bool:
    """Whether it keeps nothing of calls that have ended, and no connection that it has left."""
    inside = cast(Any, channel)
    connection = inside._connection
    return not inside._waiting and not inside._left and not (connection and connection.streams)
