"""What a process uses, and where it listens."""

from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import psutil

_MEGABYTE: Final = 1024 * 1024
# As gRPC listens on addresses of IPv4.
_MAPPED: Final = "::ffff:"


@dataclass(frozen=True, slots=True)
class Use:
    """What a process and its own children use together."""

    # Of one core, since the process was looked at first.
    cpu_percent: float
    memory_mb: float
    # `address:port` each; empty where this user may not know.
    listens: tuple[str, ...]


class ProcessUse:
    """Looks at a process from now on."""

    def __init__(self, pid: int, *, with_children: bool) -> None:
        self._processes: list[psutil.Process] = []
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            self._processes.append(process)
            if with_children:
                self._processes += process.children(recursive=True)
        for each in self._processes:
            with suppress(psutil.Error):
                each.cpu_percent()

    def look(self) -> Use | None:
        """What it used since; None where it is gone."""
        if not self._processes or not _lives(self._processes[0]):
            return None
        own, *children = self._processes
        cpu_percent = memory = 0.0
        for each in self._processes:
            with suppress(psutil.Error):
                cpu_percent += each.cpu_percent()
                memory += each.memory_info().rss
        for each in children:
            with suppress(psutil.Error):
                # Theirs alone: the rest is their parent's.
                memory -= each.memory_info().shared
        return Use(cpu_percent, memory / _MEGABYTE, _listens(own))


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _listens(process: psutil.Process) -> tuple[str, ...]:
    try:
        sockets = process.net_connections("tcp")
    except psutil.Error:
        return ()
    places = {
        (int(port), str(host))
        for host, port in (each.laddr for each in sockets if each.status == psutil.CONN_LISTEN)
    }
    return tuple(_place(host, port) for port, host in sorted(places))


def _place(host: str, port: int) -> str:
    host = host.removeprefix(_MAPPED)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
