"""The built-in tool `current_time`."""

from datetime import UTC
from difflib import get_close_matches
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from meshkit.clock import Clock
from services.tool.tool import Answer, Effect, Invocation, ToolFault, ToolSpec

_SPEC: Final = ToolSpec(
    id="current_time",
    description=(
        "Tells the present date, time and weekday. Use it whenever an answer depends on what"
        " day or time it is."
    ),
    parameters={
        "type": "object",
        "properties": {
            "time_zone": {
                "type": "string",
                "minLength": 1,
                "maxLength": 64,
                "description": "IANA name such as `Europe/Berlin`; UTC if not given.",
            }
        },
        "additionalProperties": False,
    },
    effect=Effect.READ_ONLY,
    timeout_seconds=2.0,
    result_schema={
        "type": "object",
        "properties": {
            "time": {"type": "string", "description": "ISO 8601 with the offset from UTC."},
            "time_zone": {"type": "string"},
            "weekday": {"type": "string"},
            "unix_seconds": {"type": "integer"},
        },
        "required": ["time", "time_zone", "weekday", "unix_seconds"],
        "additionalProperties": False,
    },
)


class CurrentTimeTool:
    """Answers with the time as its text, such as `2026-01-01T00:00:00+00:00`."""

    def __init__(self, clock: Clock) -> None:
        self._clock: Final = clock
        # Read once; names from callers are only looked up in it, never opened.
        self._zones: Final = available_timezones()

    @property
    def spec(self) -> ToolSpec:
        """What it is."""
        return _SPEC

    async def execute(self, invocation: Invocation) -> Answer:
        """The time in `time_zone`; ToolFault where there is no such zone."""
        zone = str(invocation.arguments.get("time_zone", "UTC"))
        now = self._clock.now().replace(microsecond=0)
        local = now.astimezone(UTC if zone == "UTC" else self._zone(zone))
        return Answer(
            local.isoformat(),
            data={
                "time": local.isoformat(),
                "time_zone": zone,
                "weekday": f"{local:%A}",
                "unix_seconds": int(now.timestamp()),
            },
        )

    def _zone(self, name: str) -> ZoneInfo:
        if name not in self._zones:
            close = get_close_matches(name, self._zones, n=1)
            guess = f" Did you mean {close[0]}?" if close else ""
            raise ToolFault(
                f"There is no time zone {name!r}; IANA names look like Europe/Berlin.{guess}"
            )
        return ZoneInfo(name)
