"""Tests of the machine's clock."""

from datetime import UTC

from meshkit.clock import SystemClock


async def test_the_clock_gives_utc_and_never_goes_back() -> None:
    """The time of day is in UTC; sleeping moves the monotonic time on."""
    clock = SystemClock()
    before = clock.monotonic_seconds()
    await clock.sleep(0.001)
    assert clock.now().tzinfo is UTC
    assert clock.monotonic_seconds() > before
