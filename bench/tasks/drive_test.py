"""The client process, where it has no mesh to drive."""

from typing import Any

import pytest

from bench.tasks.drive import ClientFailed, drive
from bench.tasks.load import Load, Stream
from meshtest.child_server import free_port


@pytest.mark.parametrize("floods", [False, True])
async def test_a_gateway_that_does_not_answer_is_told_in_a_line(
    capfd: pytest.CaptureFixture[str], floods: bool
) -> None:
    """By the client, and nothing else is printed; the process has ended."""
    address = f"127.0.0.1:{free_port()}"
    streams = (Stream("acme", in_flight=1), *((Stream("b", floods=True),) if floods else ()))
    load = Load(address, "bench", "run", streams, (0.0, 1.0), 1.0, connect_seconds=0.2)
    # It is looked at when the first mark passes.
    mesh: Any = None
    with pytest.raises(ClientFailed) as caught:
        await drive(load, mesh, lambda _seconds, _ended, _failed: None)
    assert str(caught.value) == f"The client did not reach the gateway at {address} within 0.2 s."
    assert capfd.readouterr() == ("", "")
