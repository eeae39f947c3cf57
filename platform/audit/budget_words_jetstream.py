"""The newest word on each budget in the broker; only read. See the governor's budgets."""

from typing import Final

from audit.spend import CounterKey
from meshkit.bus import Bus

_STREAM: Final = "BUDGETS"


class JetStreamBudgetWords:
    """Words on budgets: that they were set, changed, or removed."""

    def __init__(self, bus: Bus) -> None:
        self._bus: Final = bus

    async def newest(self, key: CounterKey) -> int:
        """The place of the last word on the budget of a counter; 0 where nothing was ever said."""
        if await self._bus.stream_info(_STREAM) is None:
            return 0
        name = f"{key.kind}-{key.window}"
        if key.subject:
            # A dot would begin another token.
            name = f"{name}-{key.subject.replace('.', '%2E')}"
        last = await self._bus.last(_STREAM, f"budget.{key.tenant or '-'}.{name}")
        return last.sequence if last else 0
