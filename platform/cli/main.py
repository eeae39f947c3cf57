"""Entry of the `agentmesh` command."""

import io
import os
import sys
from typing import Final, NoReturn

# gRPC's C core reads this when it is loaded; without it, it tells of broken handshakes by itself.
_GRPC_VERBOSITY: Final = "GRPC_VERBOSITY"


def main() -> NoReturn:
    """Runs the process's command line."""
    try:
        _run()
    except KeyboardInterrupt:
        # While the command was still being loaded, or what tells of its errors.
        print("error: Interrupted.", file=sys.stderr)
        sys.exit(130)


def _run() -> NoReturn:
    from cli.app import app

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Never fail for a character that the terminal's encoding lacks.
            stream.reconfigure(errors="replace")
    if _GRPC_VERBOSITY not in os.environ:
        # In no environment that is handed on: a mesh that is started here writes what it does.
        os.putenv(_GRPC_VERBOSITY, "ERROR")
    app.main(prog_name="agentmesh")


if __name__ == "__main__":
    main()
