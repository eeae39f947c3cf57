"""`agentmesh spend --export`: the ledger's entries as a file."""

import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Final

from agentmesh.governor.v1.cost_governor_service_pb2 import ExportSpendRequest
from cli.gateway import Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.problem import Problem

# A month of a large tenant is millions of entries.
_EXPORT_SECONDS: Final = 3600.0


def export(invocation: Invocation, request: ExportSpendRequest, file: Path) -> None:
    """Writes the entries to `file`, which appears when it is complete; `-` is stdout.

    Raises Problem where the file cannot be written.
    """
    if file.is_dir():
        raise Problem(f"{file} is a directory: name a file to write to.", exit_code=2)

    async def run(gateway: Gateway) -> int:
        count = 0
        with _writing(file) as output:
            async for part in gateway.governor.ExportSpend(request, timeout=_EXPORT_SECONDS):
                count += output.write(part.data)
        return count

    count = call(address_of(invocation), invocation.tenant, run)
    if str(file) == "-":
        return
    if invocation.terminal.as_json:
        invocation.terminal.document({"file": str(file), "bytes": count})
    else:
        invocation.terminal.progress(f"{file}: {count:,} bytes.")


@contextmanager
def _writing(file: Path) -> Generator[IO[bytes]]:
    if str(file) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = file.with_name(f"{file.name}.part")
    try:
        with part.open("wb") as output:
            yield output
        part.replace(file)
    except OSError as error:
        raise Problem(f"{file}: {error.strerror or error}.") from error
    finally:
        # Not there any more, unless something went wrong.
        with suppress(OSError):
            part.unlink(missing_ok=True)
