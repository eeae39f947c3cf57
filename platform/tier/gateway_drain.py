"""A gateway that ends in order: it takes no new calls, and those in flight finish."""

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Final

from tier.http_get import get, post

# Of callers; the administration's own call is no such.
_IN_FLIGHT: Final = "http.gateway.downstream_rq_active"
_PAUSE_SECONDS: Final = 0.05


async def drain(admin: Path, within_seconds: float) -> int | None:
    """Returns when no call is in flight, or with how many are when the time is over: None where
    the gateway never said.

    `admin`: the socket at which the gateway is told. Health checks fail from now on, nobody new is
    let in, and callers are told to go with the next answer. A gateway that is not there has none;
    one that has too much to do to say is asked again.
    """
    left = None
    give_up = asyncio.get_running_loop().time() + within_seconds
    with suppress(ConnectionError):
        # In this order: who is sent away finds the door closed.
        for command in ("/drain_listeners", "/healthcheck/fail"):
            with suppress(TimeoutError):
                await post(admin, command)
        while True:
            with suppress(TimeoutError):
                left = await _in_flight(admin)
                if not left:
                    return 0
            if asyncio.get_running_loop().time() > give_up:
                return left
            await asyncio.sleep(_PAUSE_SECONDS)
    return left or 0


async def _in_flight(admin: Path) -> int:
    _, body = await get(admin, f"/stats?filter=^{_IN_FLIGHT}$")
    return int(body.decode().rpartition(":")[2].strip() or 0)
