"""Where Python programs are born that have imported all they need.

nursery_program.py SOCKET PARENT-PID MODULE...: imports the modules, says that it is ready, and
becomes one program after the other as the socket asks for them; each is a child of the parent,
not of this process. It ends when the parent closes the socket, or ends.
"""

import array
import faulthandler
import gc
import importlib
import json
import os
import socket
import sys
import time
from typing import Any, Final

from tier.child_exec import die_with_parent

READY: Final = b"ready"
MOST_BYTES: Final = 1024 * 1024
_ADOPTED_WITHIN_SECONDS: Final = 10.0
_PID_BYTES: Final = 16


def main() -> None:
    """Serves the socket; in a new process, runs what that is to be."""
    asked = socket.socket(fileno=int(sys.argv[1]))
    parent = int(sys.argv[2])
    # Who crashes says where.
    faulthandler.enable()
    # Of what is imported nothing is garbage, and what is never looked at stays shared.
    gc.disable()
    for module in sys.argv[3:]:
        importlib.import_module(module)
    gc.freeze()
    asked.send(READY)
    request = _next_life(asked, parent)
    if request is not None:
        importlib.import_module(request["program"][0]).main()


def _next_life(asked: socket.socket, parent: int) -> Any:
    """What this process is to become; None where it was the nursery to the end."""
    while True:
        message, ancillary, _, _ = asked.recvmsg(MOST_BYTES, socket.CMSG_SPACE(4))
        if not message:
            return None
        log = array.array("i", ancillary[0][2])[0]
        # The child of a child that has ended belongs to the one above who adopts such.
        told, telling = os.pipe()
        between = os.fork()
        if not between:
            born = os.fork()
            if born:
                os.write(telling, str(born).encode())
                os._exit(0)
            for each in (told, telling):
                os.close(each)
            asked.close()
            request = json.loads(message)
            _begin(request, log, parent)
            return request
        os.waitpid(between, 0)
        asked.send(os.read(told, _PID_BYTES))
        for each in (log, told, telling):
            os.close(each)


def _begin(request: Any, log: int, parent: int) -> None:
    os.setsid()
    # Adopted when the one in between has ended, microseconds from now; nothing tells when.
    give_up = time.monotonic() + _ADOPTED_WITHIN_SECONDS
    while os.getppid() != parent:
        if time.monotonic() > give_up:
            os._exit(1)
        time.sleep(0.0005)
    die_with_parent()
    # It may have ended before the kernel was asked.
    if os.getppid() != parent:
        os._exit(1)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(log)
    os.chdir(request["working_dir"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = request["program"]


if __name__ == "__main__":
    main()
