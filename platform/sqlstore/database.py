"""What a copy in SQL needs of a database, whichever it is."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from meshkit.errors import DependencyUnavailable

T = TypeVar("T")
# What is done with a connection, in one transaction and in another thread.
Work = Callable[[sa.Connection], T]

_RETRY_SECONDS: Final = 1.0
# Longer than others take to follow a leader that is gone.
RESIGNED_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a database is for, as people hear of it."""

    # In errors' metadata and in the log, such as `read_model`.
    name: str
    # In sentences, such as `the read model`.
    noun: str
    # Which says where it is, such as `coordinator.read_model`.
    setting: str


class Readable(Protocol):
    """A copy that can be asked. Raises DependencyUnavailable while it is away."""

    async def read(self, work: Work[T]) -> T:
        """What `work` finds."""
        ...


class Database(Readable, Protocol):
    """Holds a copy. Every method raises DependencyUnavailable while it is away."""

    async def write(self, work: Work[T]) -> T:
        """Does all of `work` or nothing. Anybody may, at any time."""
        ...

    async def lead(self) -> None:
        """Returns once this process is the one that carries into the copy."""
        ...

    async def resign(self) -> None:
        """Lets another process lead, if one wants to; this one does not for some seconds."""
        ...

    async def carry(self, work: Work[T]) -> T:
        """As `write`, for whom `lead` let through."""
        ...


@contextmanager
def translated(purpose: Purpose) -> Generator[None]:
    """Has a database that is locked, full, damaged or away raise DependencyUnavailable."""
    try:
        yield
    except exc.SQLAlchemyError as error:
        # The driver's own word: SQLAlchemy's has the statement, and what was in it.
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        text = str(cause).strip().partition("\n")[0] or type(cause).__name__
        raise DependencyUnavailable(
            f"Failed to use {purpose.noun}: {text}.",
            metadata={"dependency": purpose.name},
            retry_after_seconds=_RETRY_SECONDS,
        ) from error
