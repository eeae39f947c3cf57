"""Runs the reference task as a DBOS workflow of three steps in this process."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
# What this imports is installed in the peer's own environment alone.

import json
import sys
from typing import Any

import uvloop
from dbos import DBOS

from bench.peers import reference_task
from bench.peers.closed_loop import load_of, run


@DBOS.step()
async def model(text: str) -> str:
    """The stub model."""
    return reference_task.model(text)


@DBOS.step()
async def tool(text: str) -> str:
    """The stub tool."""
    return reference_task.tool(text)


@DBOS.workflow()
async def answer(question: str) -> str:
    """Answers the question in three steps, each recorded before the next."""
    return await model(await tool(await model(question)))


async def _drive(options: dict[str, Any]) -> None:
    load = load_of(options)

    async def task(number: int) -> None:
        reference_task.check(number, await answer(reference_task.question(number)))

    await run(load, task)


def main() -> None:
    """Launches DBOS on the database it is given."""
    options = json.loads(sys.argv[1])
    DBOS(
        config={
            "name": "reference",
            "system_database_url": options["database"],
            "sys_db_pool_size": options["connections"],
            "log_level": "WARNING",
            "run_admin_server": False,
        }
    )
    DBOS.launch()
    try:
        uvloop.run(_drive(options))
    finally:
        DBOS.destroy()


if __name__ == "__main__":
    main()
