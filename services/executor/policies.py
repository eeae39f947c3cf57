"""The limits under which an executor works, as the rest of it sees them."""

from typing import Protocol

from tasklog.policy import Policy


class Policies(Protocol):
    """The limits in force, which change at run time."""

    @property
    def current(self) -> Policy: ...
