"""Deciding by the budgets as they are now, though another process has set them."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from meshkit.errors import DependencyUnavailable
from services.governor.account import Outdated

# Budgets may be set again and again meanwhile.
_TURNS: Final = 5

Answer = TypeVar("Answer")
# Returns when the budgets up to a place are known here; raises DependencyUnavailable.
ReachBudgets = Callable[[int], Awaitable[None]]


async def current(act: Callable[[], Awaitable[Answer]], reach: ReachBudgets) -> Answer:
    """What `act` answers by the newest budgets. It has done nothing where it raises Outdated."""
    for _ in range(_TURNS):
        try:
            return await act()
        except Outdated as outdated:
            await reach(outdated.sequence)
    raise DependencyUnavailable(
        "Budgets are set faster than they arrive.",
        metadata={"dependency": "nats"},
        retry_after_seconds=1.0,
    )
