"""How endpoints stand, in Redis: each change is one run of a script."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from redis.exceptions import NoScriptError, RedisError

from meshkit.redis_line import RedisLine
from meshkit.redis_store import unavailable
from services.reasoning.endpoint_standing import BreakerRules, Standing

_SCRIPT: Final = Path(__file__).with_name("endpoint_standing.lua")


class RedisStandings:
    """The standings of all endpoints."""

    def __init__(self, line: RedisLine, rules: BreakerRules, stretch: Callable[[], float]) -> None:
        """`stretch`: by what a pause is stretched, so that processes do not act in step."""
        self._line: Final = line
        self._stretch: Final = stretch
        self._rules: Final = (
            *(rules.window_seconds, rules.least_failures, rules.failure_percent),
            *(_ms(rules.pause_seconds), _ms(rules.longest_pause_seconds)),
            *(rules.probes, _ms(rules.probe_seconds)),
        )
        self._script: Final = _SCRIPT.read_text("utf-8")
        # Redis names a script so; not for secrecy.
        self._sha: Final = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()

    async def report(self, endpoint: str, calls: int, failures: int) -> Standing:
        """Counts what happened since the last report; enough failures open the breaker."""
        return (await self._say(endpoint, "report", calls, failures)).standing

    async def probe(self, endpoint: str, probe: str) -> tuple[bool, Standing]:
        """Whether this call may go out to see whether the endpoint works again."""
        answer = await self._say(endpoint, "probe", probe)
        return answer.lent, answer.standing

    async def probed(self, endpoint: str, probe: str, worked: bool | None) -> Standing:
        """What a probe found."""
        found = "" if worked is None else "worked" if worked else "failed"
        return (await self._say(endpoint, "probed", probe, found)).standing

    async def slow_down(self, endpoint: str, seconds: float) -> Standing:
        """Has all processes leave the endpoint alone for so long."""
        return (await self._say(endpoint, "slow", _ms(seconds))).standing

    async def _say(self, endpoint: str, said: str, *details: str | int) -> "_Answer":
        key = f"endpoint:{{{endpoint}}}"
        asked = (
            *("EVALSHA", self._sha, 3, key, f"{key}:window", f"{key}:probes"),
            *(said, *self._rules, f"{self._stretch():.4f}", *details),
        )
        try:
            try:
                (answer,) = await self._line.ask([asked])
            except NoScriptError:
                await self._line.ask([("SCRIPT", "LOAD", self._script)])
                (answer,) = await self._line.ask([asked])
        except RedisError as error:
            raise unavailable(error) from error
        return _answer(answer)


@dataclass(frozen=True, slots=True)
class _Answer:
    lent: bool
    standing: Standing


def _answer(answer: Any) -> _Answer:
    is_open, probing_in, openings, slowed, lent = answer
    return _Answer(lent == 1, Standing(is_open == 1, probing_in / 1000, openings, slowed / 1000))


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
