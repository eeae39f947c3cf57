"""Ports of the loopback interface."""

import contextlib
import ipaddress
import random
import socket
from collections import deque
from typing import Final

from tier.failures import PortTaken

HOST: Final = "127.0.0.1"
# Below those that the system gives to outgoing connections: a client that tries again and
# again to reach a server that is down would one day get the server's port as its own.
_OURS: Final = (12_000, 32_000)
# Given out by this process, and perhaps not listened on yet: a server takes its time to begin.
_GIVEN: Final[deque[int]] = deque(maxlen=1_000)


def free_ports(count: int) -> list[int]:
    """Different ports that nobody uses now, and that were not given to others of this process."""
    chosen: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(chosen) < count:
            probe = stack.enter_context(socket.socket())
            port = random.randrange(*_OURS)
            if port in _GIVEN:
                continue
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                chosen.append(port)
                _GIVEN.append(port)
    return chosen


def is_free(port: int, address: str = HOST) -> bool:
    """Whether a server could listen on `port`; only on an address of this machine it could."""
    is_new = ipaddress.ip_address(address).version == 6
    with socket.socket(socket.AF_INET6 if is_new else socket.AF_INET) as probe:
        # As servers do: what only waits for late packets is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def require_free(port: int, purpose: str, address: str = HOST) -> None:
    """PortTaken, with who has it where that can be told, unless `port` is free.

    It is given to nobody else then.
    """
    if not is_free(port, address):
        raise PortTaken(port, holder(port), purpose)
    _GIVEN.append(port)


def claim(port: int, purpose: str, address: str = HOST) -> int:
    """`port`, as `require_free`; a free one where it is 0."""
    if not port:
        return free_ports(1)[0]
    require_free(port, purpose, address)
    return port


def holder(port: int) -> str | None:
    """The process that listens on `port`, if this user may know."""
    import psutil

    try:
        for each in psutil.net_connections("tcp"):
            if each.status == psutil.CONN_LISTEN and tuple(each.laddr)[1:] == (port,) and each.pid:
                return f"{psutil.Process(each.pid).name()} (pid {each.pid})"
    except psutil.Error:
        return None
    return None
