"""How the parts of a mesh share the processors of one machine."""

import os
from collections.abc import Generator
from contextlib import contextmanager


def take_turns() -> None:
    """Has this process, and those that it starts, run once a processor is free.

    Who is woken interrupts who runs otherwise; and parts of a mesh wake each other with every
    message: each would run for one message, and leave its caches to the next. Not where somebody
    has chosen another way already, or forbids it.
    """
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        return
    try:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    except PermissionError:
        return


@contextmanager
def turns() -> Generator[None]:
    """`take_turns`, for what is started inside."""
    before = os.sched_getscheduler(0)
    take_turns()
    try:
        yield
    finally:
        if os.sched_getscheduler(0) != before:
            os.sched_setscheduler(0, before, os.sched_param(0))
