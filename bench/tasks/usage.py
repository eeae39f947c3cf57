"""What the processes of a mesh use: processor, memory, disk."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, slots=True)
class Usage:
    """What was used up to a moment."""

    # By process.
    cpu_seconds: Mapping[str, float]
    rss_bytes: Mapping[str, int]
    # What all processes handed to the disk.
    written_bytes: int
    # The size of all files in the mesh's folder.
    data_bytes: int


def usage(pids: Mapping[str, int], folder: Path) -> Usage:
    """What the processes use, with their children; those that have ended count nothing."""
    cpu_seconds: dict[str, float] = {}
    rss_bytes: dict[str, int] = {}
    written = 0
    children = _children()
    for name, pid in pids.items():
        cpu_seconds[name], rss_bytes[name] = 0.0, 0
        for process in _family(pid, children):
            try:
                with process.oneshot():
                    times = process.cpu_times()
                    cpu_seconds[name] += times.user + times.system
                    rss_bytes[name] += process.memory_info().rss
                    written += process.io_counters().write_bytes
            except psutil.Error:
                continue
    return Usage(cpu_seconds, rss_bytes, written, _size(folder))


def _children() -> Mapping[int, list[psutil.Process]]:
    """The children of every process, in one pass: to ask for those of one takes a pass, too."""
    children: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        try:
            children.setdefault(process.ppid(), []).append(process)
        except psutil.Error:
            continue
    return children


def _family(pid: int, children: Mapping[int, list[psutil.Process]]) -> list[psutil.Process]:
    """A process and its children; this one alone, for its children are named themselves."""
    try:
        family = [psutil.Process(pid)]
    except psutil.Error:
        return []
    if pid != os.getpid():
        # Grows on the way: theirs follow.
        for process in family:
            family += children.get(process.pid, ())
    return family


def _size(folder: Path) -> int:
    size = 0
    for path in folder.rglob("*"):
        try:
            size += path.stat().st_size if path.is_file() else 0
        except OSError:
            # Files come and go.
            continue
    return size
