"""What alerts about thresholds say."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from services.governor.alert import Kind
from services.governor.window import Window

_WHAT_FOLLOWS: Final[Mapping[Kind, str]] = {
    Kind.ALERT: "Nothing changes yet.",
    Kind.DEGRADE: "Calls use cheaper tiers from here on.",
    Kind.THROTTLE: "All but interactive work waits from here on.",
    Kind.SHUTOFF: "Calls are refused from here on.",
}


def what_follows(kind: Kind, window: Window) -> str:
    """What happens from now on, and for how long."""
    text = _WHAT_FOLLOWS[kind]
    return f"{text} It starts again at {moment(window.end)}." if window.end else text


def moment(time: datetime) -> str:
    """A time in UTC, to the minute."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%MZ}"
