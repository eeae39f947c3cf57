"""What is asked of a system that passes calls on to a model."""

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from bench.gateway.http_calls import HttpCalls


class SystemUnavailable(Exception):
    """A system cannot be installed or started here; the text says why and what to do."""


class Calls(Protocol):
    """Makes the reference call of a system, and checks the answer."""

    async def whole(self) -> None:
        """The whole answer at once."""
        ...

    async def stream(self, first: Callable[[], None]) -> None:
        """The answer in pieces; calls `first` at the first one."""
        ...


@dataclass(frozen=True, slots=True)
class Running:
    """A system that runs."""

    calls: Calls
    # Its processes, by what they are; not the upstream, and not who calls.
    parts: Mapping[str, int]


class System(Protocol):
    """A way to the upstream."""

    @property
    def name(self) -> str:
        """As in options and in JSON."""
        ...

    @property
    def title(self) -> str:
        """For people."""
        ...

    def install(self) -> str:
        """Brings what it needs, if that is not there yet; returns how it is set, for people.

        Raises:
            SystemUnavailable: It cannot be had here.
        """
        ...

    def run(self, upstream_port: int, folder: Path) -> AbstractAsyncContextManager[Running]:
        """Starts it before the upstream, with its state in an empty folder; ends it afterwards.

        Raises:
            SystemUnavailable: It does not start.
        """
        ...


class Direct:
    """No system at all: the upstream itself, with which the others are compared."""

    def __init__(self) -> None:
        self.name: Final = "upstream"
        self.title: Final = "Upstream directly"

    def install(self) -> str:
        """Nothing."""
        return "the stub itself, without anything before it"

    @asynccontextmanager
    async def run(self, upstream_port: int, folder: Path) -> AsyncGenerator[Running]:
        """Only connects."""
        calls = HttpCalls("127.0.0.1", upstream_port, "/v1/chat/completions")
        try:
            yield Running(calls, {})
        finally:
            calls.close()
