"""Calls the Restate service through the server's ingress."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
# What this imports is installed in the peer's own environment alone.

import json
import sys
from typing import Any

import aiohttp
import uvloop

from bench.peers import reference_task
from bench.peers.closed_loop import load_of, run


async def _drive(options: dict[str, Any]) -> None:
    url = f"{options['ingress']}/tasks/run"
    load = load_of(options)
    connections = aiohttp.TCPConnector(limit=load.in_flight)
    async with aiohttp.ClientSession(connector=connections) as session:

        async def task(number: int) -> None:
            async with session.post(url, json=reference_task.question(number)) as response:
                response.raise_for_status()
                reference_task.check(number, await response.json())

        await run(load, task)


if __name__ == "__main__":
    uvloop.run(_drive(json.loads(sys.argv[1])))
