"""How another interpreter comes to import what this one can."""

import os
import sys


def python_environment() -> dict[str, str]:
    """To be added to the environment of a Python child, which is run with `-P`."""
    return {"PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
