"""The record of calls that change something: what a repeat of the same key finds."""

from dataclasses import dataclass
from typing import Protocol

from services.tool.tool import Answer


@dataclass(frozen=True, slots=True)
class Begun:
    """The call is ours to execute, and recorded as started."""


@dataclass(frozen=True, slots=True)
class Finished:
    """It was executed before, with this answer."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Running:
    """Somebody executes it right now."""


@dataclass(frozen=True, slots=True)
class Interrupted:
    """It was started, and whoever did so is gone: nobody knows whether it was done."""


@dataclass(frozen=True, slots=True)
class OtherCall:
    """The key belongs to a call of another tool or with other arguments."""


Found = Begun | Finished | Running | Interrupted | OtherCall


@dataclass(frozen=True, slots=True)
class CallKey:
    """Which call."""

    tenant: str
    key: str
    # Equal for equal tools and arguments.
    digest: str


class CallRecords(Protocol):
    """Keeps records. All methods raise DependencyUnavailable where the store is away."""

    async def begin(self, call: CallKey, *, lease_seconds: float, take_over: bool) -> Found:
        """Records the call as started by us, unless it was recorded before.

        An interrupted one is begun again where `take_over` says so. For
        `lease_seconds` others see it as running.
        """
        ...

    async def finish(self, call: CallKey, answer: Answer) -> None:
        """Records the answer, for all repeats to come. The first one stays."""
        ...

    async def abandon(self, call: CallKey) -> None:
        """Ends our lease without an answer: the call counts as interrupted at once."""
        ...

    async def forget(self, call: CallKey) -> None:
        """Takes back a beginning of ours after which nothing was executed."""
        ...
