"""The client of the benchmark: a process of its own, so that nothing else keeps it waiting.

It reads an Asking as JSON, asks, and writes lines of JSON: the time when the warm-up ends and when
all is answered, in seconds since 1970, and in the end what came of it.
"""

import asyncio
import gc
import json
import sys
import time

import uvloop

from bench.governor.admissions import ask
from bench.governor.asking import ASKED, ASKING, Asked, Asking


def _say(message: dict[str, object]) -> None:
    print(json.dumps(message, separators=(",", ":")), flush=True)


async def _run(asking: Asking) -> Asked:
    seen, errors = await ask(asking, lambda: _say({"mark": time.time()}))
    return Asked(seen.latencies.encode(), seen.late.encode(), dict(errors))


def main() -> None:
    """Reads what to ask, and asks."""
    asking = ASKING.validate_json(sys.stdin.read())
    # A pause of this process is none of what it measures.
    gc.freeze()
    gc.disable()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        asked = runner.run(_run(asking))
    _say({"asked": ASKED.dump_python(asked, mode="json")})


if __name__ == "__main__":
    main()
