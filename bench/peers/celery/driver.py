"""Submits chains of three Celery tasks, and waits for their results.

One thread does it all: it reads results as Redis announces them, and submits a
chain for each that is done.
"""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
# What this imports is installed in the peer's own environment alone.

import json
import sys
from typing import Any

from bench.peers import reference_task
from bench.peers.celery.reference_app import app, model, tool
from bench.peers.closed_loop import Window, load_of


def main() -> None:
    """Keeps chains in flight until the time is over."""
    load = load_of(json.loads(sys.argv[1]))
    window = Window(load)
    running = 0

    def submit() -> None:
        nonlocal running
        number, begun = window.begin()
        chain = model.s(reference_task.question(number)) | tool.s() | model.s()

        def done(result: Any) -> None:
            nonlocal running
            running -= 1
            reference_task.check(number, result.get())
            window.end(begun)

        running += 1
        chain.apply_async().then(done)

    while running or not window.over:
        while running < load.in_flight and not window.over:
            submit()
        app.backend.result_consumer.drain_events(timeout=1)
    window.report()


if __name__ == "__main__":
    main()
