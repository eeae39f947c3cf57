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

    A pipe or a device, such as `/dev/stdout`, is written to as the entries come.
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
    # What is no file is not replaced by one, nor a link: for root that would be /dev/null.
    replaces = file.is_file() or not file.exists()
    target = file.resolve() if replaces else file
    part = target.with_name(f"{target.name}.part") if replaces else target
    try:
        with part.open("wb") as output:
            yield output
        if replaces:
            part.replace(target)
    except OSError as error:
        raise Problem(f"{file}: {error.strerror or error}.") from error
    finally:
        # Not there any more, unless something went wrong.
        if replaces:
            with suppress(OSError):
                part.unlink(missing_ok=True)
