"""API keys as people read them."""

from collections.abc import Sequence
from datetime import UTC
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.access.v1.access_service_pb2 import ApiKey
from cli.choices import ROLES
from cli.terminal import Terminal
from cli.wording import moment, plural, shorten

_NAME_COLUMN: Final = 30


def show_keys(terminal: Terminal, keys: Sequence[ApiKey], *, hidden: int) -> None:
    """A line for each key, and how many ended ones are not shown."""
    if keys:
        terminal.table(
            ("KEY", "NAME", "ENDING", "ROLE", "SCOPES", "STATE", "LAST USED", "MADE BY"),
            [
                (
                    each.name.rpartition("/")[2],
                    shorten(each.display_name, _NAME_COLUMN) or "-",
                    f"…{each.ending}",
                    _role(each),
                    " ".join(each.scopes) or "all",
                    _state(each),
                    _time(each.last_use_time) if each.HasField("last_use_time") else "never",
                    each.creator,
                )
                for each in keys
            ],
        )
    else:
        terminal.say("There are no keys in force." if hidden else "There are no keys.")
    if hidden:
        terminal.progress(f"{plural(hidden, 'key')} that ended: see --all.")


def show_key(terminal: Terminal, key: ApiKey, text: str) -> None:
    """All about a key, with its text unless that is empty."""
    terminal.fields(
        [
            ("Name", key.name),
            ("Called", key.display_name),
            ("Role", _role(key)),
            ("Scopes", " ".join(key.scopes) or "all that the role may"),
            ("Expires", _time(key.expire_time) if key.HasField("expire_time") else "never"),
            ("Key", text),
        ]
    )


def _role(key: ApiKey) -> str:
    return next((name for name, number in ROLES.items() if number == key.role), "-")


def _state(key: ApiKey) -> str:
    match key.state:
        case ApiKey.STATE_REVOKED:
            return f"revoked {_time(key.revoke_time)} by {key.revoker}"
        case ApiKey.STATE_EXPIRED:
            return f"expired {_time(key.expire_time)}"
        case _ if key.HasField("expire_time"):
            return f"until {_time(key.expire_time)}"
        case _:
            return "active"


def _time(stamp: Timestamp) -> str:
    return moment(stamp.ToDatetime(tzinfo=UTC))
