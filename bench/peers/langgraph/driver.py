"""Runs the reference task as a graph of three nodes with checkpoints in PostgreSQL."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
# What this imports is installed in the peer's own environment alone.

import json
import sys
from typing import Any, TypedDict

import uvloop
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import END, START, StateGraph
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from bench.peers import reference_task
from bench.peers.closed_loop import load_of, run


class State(TypedDict):
    """What goes from node to node."""

    text: str


async def model(state: State) -> State:
    """The stub model."""
    return {"text": reference_task.model(state["text"])}


async def tool(state: State) -> State:
    """The stub tool."""
    return {"text": reference_task.tool(state["text"])}


def _graph(saver: Any) -> Any:
    graph = StateGraph(State)
    graph.add_node("plan", model)
    graph.add_node("tool", tool)
    graph.add_node("answer", model)
    graph.add_edge(START, "plan")
    graph.add_edge("plan", "tool")
    graph.add_edge("tool", "answer")
    graph.add_edge("answer", END)
    return graph.compile(checkpointer=saver)


async def _drive(options: dict[str, Any]) -> None:
    load = load_of(options)
    count = options["checkpointers"]
    async with AsyncConnectionPool(
        options["database"],
        min_size=count,
        max_size=count,
        # As the checkpointer's documentation asks for.
        kwargs={"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row},
    ) as pool:
        await AsyncPostgresSaver(pool).setup()
        graphs = [_graph(AsyncPostgresSaver(pool)) for _ in range(count)]

        async def task(number: int) -> None:
            state = await graphs[number % count].ainvoke(
                {"text": reference_task.question(number)},
                {"configurable": {"thread_id": str(number)}},
                durability="sync",
            )
            reference_task.check(number, state["text"])

        await run(load, task)


if __name__ == "__main__":
    uvloop.run(_drive(json.loads(sys.argv[1])))
