"""Becomes another program, after asking the kernel to kill it when its parent dies.

Run by path, as `python -I -S child_exec.py PARENT_PID PROGRAM ARGUMENT...`: a wrapper,
because code between fork and exec is not safe in a parent that has threads.
"""

import ctypes
import os
import signal
import sys

# With which children are started: files of a mesh are for its owner alone.
UMASK = 0o077
_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Has the kernel kill this process when its parent dies; holds for what it executes, too."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def main() -> None:
    """Executes the program; ends at once where the parent is gone already."""
    die_with_parent()
    if os.getppid() != int(sys.argv[1]):
        sys.exit(1)
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
