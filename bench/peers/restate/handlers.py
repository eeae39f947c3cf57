"""The reference task as a Restate service: a handler with three recorded actions."""

# pyright: basic, reportMissingImports=false, reportAttributeAccessIssue=false
# What this imports is installed in the peer's own environment alone.

import ctypes
import signal

import restate

from bench.peers import reference_task

_PR_SET_PDEATHSIG = 1
# granian's worker does not notice by itself when granian is killed.
ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)

tasks = restate.Service("tasks")


@tasks.handler()
async def run(ctx: restate.Context, question: str) -> str:
    """Answers the question in three steps, each recorded before the next."""
    plan = await ctx.run_typed("plan", reference_task.model, text=question)
    found = await ctx.run_typed("tool", reference_task.tool, text=plan)
    return await ctx.run_typed("answer", reference_task.model, text=found)


app = restate.app([tasks])
