"""How many partitions the log of tasks has: decided once, and kept beside it."""

from typing import Final

from meshkit.bus import Bus, StreamSpec
from meshkit.config import ConfigError
from meshkit.errors import Conflict, CorruptData
from tasklog.partitions import MAX_PARTITIONS, WHOLE, Partitions

_STREAM: Final = "LAYOUT"
_SUBJECT: Final = "layout.tasks"


async def settle(bus: Bus, wanted: int | None) -> Partitions:
    """The partitions of the log; of one that is yet to be made, `wanted`, or one where None.

    Whoever is first decides for all who share the broker, and for as long as the
    log lives: a tenant whose tasks were looked for in another stream would seem
    to have none.

    Raises:
        ConfigError: The log has another number of partitions than is wanted.
        DependencyUnavailable: The broker cannot be reached in time.
    """
    await bus.ensure_stream(
        StreamSpec(
            name=_STREAM,
            subjects=(_SUBJECT,),
            max_messages_per_subject=1,
            description="How many partitions the log of tasks has. Written once, with the log.",
        )
    )
    stored = await _stored(bus)
    if stored is None:
        # One that was begun before it could be cut.
        is_whole = await bus.stream_info(WHOLE.stream) is not None
        count = 1 if is_whole or wanted is None else wanted
        try:
            await bus.append(_SUBJECT, str(count).encode(), expected_last=0)
            stored = count
        except Conflict:
            stored = await _stored(bus) or count
    if wanted not in (None, stored):
        raise ConfigError(
            f"task_partitions: the task log on this broker has {stored} of them, which is for"
            f" good, not {wanted}: set {stored} or leave it out, or begin a new log on another"
            " broker or data directory"
        )
    return Partitions(stored)


async def look_up(bus: Bus) -> Partitions:
    """The partitions of the log as it stands; changes nothing. One where there is no log."""
    if await bus.stream_info(_STREAM) is None:
        return Partitions()
    return Partitions(await _stored(bus) or 1)


async def _stored(bus: Bus) -> int | None:
    message = await bus.last(_STREAM, _SUBJECT)
    if message is None:
        return None
    text = message.payload.decode("ascii", "replace")
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PARTITIONS:
        raise CorruptData(f"The stream {_STREAM} says {text!r}, which is no number of partitions.")
    return int(text)
