"""A service as a process, as it ships, but that tests can move its clock.

    python -m tests.faults.service_process executor --config FILE

SIGUSR1 puts its clock an hour forward, SIGUSR2 an hour back. The tool service's
calculator has an effect that is told to the world outside.
"""

import importlib
import signal
import sys
from datetime import datetime, timedelta
from types import FrameType
from typing import Any

from meshkit import service
from meshkit.clock import SystemClock

_HOUR = timedelta(hours=1)


class JumpingClock(SystemClock):
    """The machine's clock, moved by signals."""

    def __init__(self) -> None:
        self._ahead = timedelta()
        for each in (signal.SIGUSR1, signal.SIGUSR2):
            signal.signal(each, self._jump)

    def now(self) -> datetime:
        """The time of day, in UTC, and what it was moved by."""
        return super().now() + self._ahead

    def _jump(self, number: int, _frame: FrameType | None) -> None:
        self._ahead += _HOUR if number == signal.SIGUSR1 else -_HOUR


def main() -> None:
    """Runs the service that the first argument names."""
    name = sys.argv.pop(1)
    service.SystemClock = JumpingClock
    root: Any = importlib.import_module(f"services.{name}.main")
    if name == "tool":
        from tests.faults import told_calculator

        root.CalculatorTool = told_calculator.ToldCalculator
        root.ToolService = told_calculator.PeerToolService
    root.main()


if __name__ == "__main__":
    main()
