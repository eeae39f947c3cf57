"""Entry of the `agentmesh` command."""

import io
import sys
from typing import NoReturn

from cli.app import app


def main() -> NoReturn:
    """Runs the process's command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Never fail for a character that the terminal's encoding lacks.
            stream.reconfigure(errors="replace")
    app.main(prog_name="agentmesh")


if __name__ == "__main__":
    main()
