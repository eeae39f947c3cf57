"""How busy a Triton is, by its metrics."""

from meshtest.child_server import free_port
from models.orca_reporter import TritonStatistics


async def test_a_triton_that_is_away_gives_no_sample() -> None:
    """Nothing is reported of it, and Envoy finds out by itself."""
    assert await TritonStatistics("127.0.0.1", free_port()).sample() is None
