"""Which processes run on which cores, so that throughput is that of one core."""

import contextlib
import os
from collections.abc import Generator, Iterable

import psutil


@contextlib.contextmanager
def on_one_core(system: Iterable[int], others: Iterable[int]) -> Generator[bool]:
    """Has the processes of `system` share one core, and `others` the rest of them.

    Gives whether it could be done: not on a machine with one core. Afterwards all may run on
    all cores again.
    """
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1:
        yield False
        return
    system, others = list(system), list(others)
    _pin(system, cores[:1])
    _pin(others, cores[1:])
    try:
        yield True
    finally:
        _pin([*system, *others], cores)


def _pin(pids: Iterable[int], cores: Iterable[int]) -> None:
    for pid in pids:
        # What has ended needs no core.
        with contextlib.suppress(psutil.Error, OSError):
            process = psutil.Process(pid)
            family = [process] if pid == os.getpid() else [process, *process.children(True)]
            for each in family:
                # A thread keeps what it was told before; those to come do as who begins them.
                for thread in each.threads():
                    os.sched_setaffinity(thread.id, cores)
