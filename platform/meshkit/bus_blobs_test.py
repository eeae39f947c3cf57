"""Content outside of messages where the replica that answers is behind."""

from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from meshkit.bus import Bus, StoredMessage
from meshkit.errors import CorruptData

pytest_plugins = ["meshtest.fixtures"]

# Three chunks.
CONTENT = bytes(range(256)) * 1_500


class Behind(Bus):
    """A broker whose replica that answers has only the first messages of each subject."""

    has = 0

    async def last(self, stream: str, subject_filter: str) -> StoredMessage | None:
        return await super().last(stream, subject_filter) if self.has else None

    async def read(
        self, stream: str, subject_filter: str, *, start_sequence: int = 1, batch: int = 256
    ) -> AsyncGenerator[StoredMessage]:
        left = self.has
        async for each in super().read(
            stream, subject_filter, start_sequence=start_sequence, batch=batch
        ):
            if not left:
                return
            left -= 1
            yield each


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Behind]:
    """A connection to a broker of the test's own."""
    async with await Behind.connect(nats_url, name="test") as bus:
        yield bus


@pytest.mark.parametrize("has", [0, 1, 2], ids=["nothing", "one-chunk", "two-chunks"])
async def test_content_that_a_replica_does_not_show_is_asked_for_of_the_leader(
    bus: Behind, has: int
) -> None:
    """What the replica lacks is neither gone nor damaged."""
    reference = await bus.put_blob("a.t1", CONTENT, "application/x")
    empty = await bus.put_blob("a.t1", b"", "text/plain")
    bus.has = has
    assert await bus.get_blob("a.t1", reference) == CONTENT
    assert await bus.get_blob("a.t1", empty) == b""


async def test_content_that_the_leader_does_not_have_is_gone(bus: Behind) -> None:
    """Nor is what it has a part of taken for the whole."""
    reference = await bus.put_blob("a.t1", CONTENT, "application/x")
    await bus.purge("OBJ_blobs", "$O.blobs.C.>")
    with pytest.raises(CorruptData, match=r"The content of a\.t1 .* is damaged"):
        await bus.get_blob("a.t1", reference)
    await bus.delete_blob("a.t1", reference.digest)
    await bus.purge("OBJ_blobs", "$O.blobs.M.>")
    with pytest.raises(CorruptData, match=r"There is no content of a\.t1"):
        await bus.get_blob("a.t1", reference)
