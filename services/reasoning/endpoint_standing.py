"""How an endpoint stands for all processes together, and where that is kept."""

from dataclasses import dataclass
from typing import Final, Protocol


@dataclass(frozen=True, slots=True)
class BreakerRules:
    """When a breaker opens, and for how long."""

    # Over how long calls and failures are counted.
    window_seconds: int = 10
    # So many failures within the window open it,
    least_failures: int = 5
    # where they are such a share of the calls.
    failure_percent: int = 50
    # How long it stays open at first; each time after twice as long,
    pause_seconds: float = 5.0
    # and never longer than so.
    longest_pause_seconds: float = 120.0
    # How many calls at a time go out to see whether it works again.
    probes: int = 3
    # After so long a probe that says nothing is lost.
    probe_seconds: float = 60.0

    def pause_after(self, openings: int) -> float:
        """How long it stays open the so-manieth time, in seconds, before it is stretched."""
        doubled = self.pause_seconds * 2.0 ** min(openings - 1, 30)
        return min(self.longest_pause_seconds, doubled)


@dataclass(frozen=True, slots=True)
class Standing:
    """What all processes go by."""

    # Its breaker is open, or half-open where `probing_in_seconds` is 0.
    open: bool = False
    # Until probes may go out, in seconds.
    probing_in_seconds: float = 0.0
    # How often it opened without working long enough in between.
    openings: int = 0
    # Its provider asked to be left alone for so long, in seconds.
    slowed_seconds: float = 0.0


SOUND: Final = Standing()


class Standings(Protocol):
    """Where the processes tell each other. Every method raises DependencyUnavailable."""

    async def report(self, endpoint: str, calls: int, failures: int) -> Standing:
        """Counts what happened since the last report; enough failures open the breaker."""
        ...

    async def probe(self, endpoint: str, probe: str) -> tuple[bool, Standing]:
        """Whether this call may go out to see whether the endpoint works again.

        The name `probe` is lent for a time that a prober which dies does not prolong.
        """
        ...

    async def probed(self, endpoint: str, probe: str, worked: bool | None) -> Standing:
        """What a probe found: one that worked closes the breaker, one that failed opens it.

        With None it found nothing, and another may be lent. One whose time is over
        says nothing.
        """
        ...

    async def slow_down(self, endpoint: str, seconds: float) -> Standing:
        """Has all processes leave the endpoint alone for so long."""
        ...
