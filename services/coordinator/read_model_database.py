"""What the read model needs of a database, whichever it is."""

from collections.abc import Callable, Generator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy import exc

from meshkit.errors import DependencyUnavailable

T = TypeVar("T")
# What is done with a connection, in one transaction and in another thread.
Work = Callable[[sa.Connection], T]

_RETRY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Place:
    """How far a stream was carried into a copy."""

    # The last stream sequence, 0 for none.
    position: int
    # When that message was stored, in nanoseconds since 1970.
    stamp_ns: int


# Before a stream's first message.
BEGINNING: Final = Place(0, 0)


class Moved(Exception):
    """Somebody else carries events into the copy, or has put another one in its place."""


class Database(Protocol):
    """Holds a copy of the log. Every method raises DependencyUnavailable while it is away."""

    @property
    def kind(self) -> str:
        """`sqlite` or `postgresql`."""
        ...

    async def read(self, work: Work[T]) -> T:
        """What `work` finds."""
        ...

    async def write(self, work: Work[T]) -> T:
        """Does all of `work` or nothing. Anybody may, at any time."""
        ...

    async def lead(self) -> None:
        """Returns once this process is the one that carries events into the copy."""
        ...

    async def carry(self, work: Work[T]) -> T:
        """As `write`, for whom `lead` let through."""
        ...


class Copies(Database, Protocol):
    """A Database that can be built again while it is in use."""

    def rebuilding(self) -> AbstractAsyncContextManager["NextCopy"]:
        """An empty copy beside the one in use; removed at the end, unless it was put in use.

        Raises:
            Conflict: It is being built again already.
        """
        ...


class NextCopy(Database, Protocol):
    """A copy that is not in use yet."""

    def switching(self) -> AbstractAsyncContextManager[None]:
        """While it lasts, nothing is carried into the copy in use; at its end this one is.

        There is no moment at which there is none. After an exception all stays as it was.
        """
        ...


@contextmanager
def translated() -> Generator[None]:
    """Has a database that is locked, full, damaged or away raise DependencyUnavailable."""
    try:
        yield
    except exc.SQLAlchemyError as error:
        # The driver's own word: SQLAlchemy's has the statement, and what was in it.
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        text = str(cause).strip().partition("\n")[0] or type(cause).__name__
        raise DependencyUnavailable(
            f"Failed to use the read model: {text}.",
            metadata={"dependency": "read_model"},
            retry_after_seconds=_RETRY_SECONDS,
        ) from error
