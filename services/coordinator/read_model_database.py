"""What the read model needs of a database beside what every copy does."""

from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

from sqlstore.database import Database, Purpose

PURPOSE: Final = Purpose("read_model", "the read model", "coordinator.read_model")


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
