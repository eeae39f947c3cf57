"""Starts the program of a service: service_program.py MODULE ARGUMENT...

Garbage is collected once the program runs: of what it imports nothing is garbage, and looking
for some takes a sixth of the time until it serves.
"""

import gc
import importlib
import sys


def main() -> None:
    """Runs `main` of the module that the first argument names."""
    module = sys.argv.pop(1)
    gc.disable()
    importlib.import_module(module).main()


if __name__ == "__main__":
    main()
