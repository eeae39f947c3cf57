"""Test-only: a governor with small budgets, shortly before a month ends."""

import pytest

from meshkit.redis_line import RedisLine
from meshtest.clock import FakeClock
from services.governor.governor_parts import GovernorParts, governor_parts
from services.governor.rule_calls import DEFAULTS, START
from services.governor.scripted_ledger import ScriptedLedger


@pytest.fixture
def clock() -> FakeClock:
    """Ten minutes before a month ends."""
    return FakeClock(START)


@pytest.fixture
def parts(line: RedisLine, clock: FakeClock, ledger: ScriptedLedger) -> GovernorParts:
    """A governor whose tenants have 1,000 micro-USD a day."""
    return governor_parts(line, clock, ledger, DEFAULTS)
