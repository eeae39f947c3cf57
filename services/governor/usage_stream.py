"""Where the journal of usage stands in the broker."""

from typing import Final

from meshkit.bus import StreamSpec

STREAM: Final = "USAGE"
# One for all tenants: what the ledger has is then a single place in the stream.
SUBJECT: Final = "usage"
_DAY_SECONDS: Final = 86_400
# A publish is repeated for no longer than a call lasts.
_DUPLICATE_SECONDS: Final = 30


def usage_stream_spec(*, keep_days: int | None, max_bytes: int | None) -> StreamSpec:
    """The stream.

    A full one refuses what is new: what is old may not be in the ledger yet.

    Args:
        keep_days: After how many days messages are removed; None for never.
        max_bytes: How large it may grow; None for as large as the disk.
    """
    return StreamSpec(
        name=STREAM,
        subjects=(SUBJECT,),
        max_age_seconds=None if keep_days is None else keep_days * _DAY_SECONDS,
        max_bytes=max_bytes,
        duplicate_window_seconds=_DUPLICATE_SECONDS,
        refuse_when_full=True,
        description="What every settled call used and cost. The ledger is built from it.",
    )
