"""The keys of calls that are made for one call: each is charged by itself."""

from typing import Final

from meshkit.ids import stable_id

# As the governor has it: under a lease it hears of a call when that is paid already, and what
# it refuses then is charged to nobody.
_MOST_CHARACTERS: Final = 200
_ID_CHARACTERS: Final = 26


def key_of_another(key: str, what: str) -> str:
    """The key of another call for the call with that key: `what`, such as `hedge`, says which.

    The same every time. Empty keys, of calls that are each charged, stay empty.
    """
    if not key:
        return ""
    another = f"{key}#{what}"
    if len(another) <= _MOST_CHARACTERS:
        return another
    # Not behind a #: that is where the settlements' own identifiers stand.
    return f"{another[: _MOST_CHARACTERS - 1 - _ID_CHARACTERS]}@{stable_id(another)}"
