"""For test modules that say `pytest_plugins = ["meshtest.both_loops"]`: each test on both loops.

Services run on uvloop, whose transports differ from those of Python's own loop.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

import pytest
import uvloop

_Make = Callable[[], asyncio.AbstractEventLoop]

_OWN: Final[Mapping[str, _Make]] = {"asyncio": asyncio.new_event_loop}
_BOTH: Final[Mapping[str, _Make]] = {**_OWN, "uvloop": uvloop.new_event_loop}


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Function
) -> Mapping[str, _Make]:
    """Other modules of the same run stay with the one loop."""
    return _BOTH if __name__ in getattr(item.module, "pytest_plugins", ()) else _OWN
