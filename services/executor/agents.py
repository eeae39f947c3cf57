"""Runs tasks as their agents say: which pattern, which tools, what they remember."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agentmesh.coordinator.v1 import task_event_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskSubmitted
from agentmesh.tool.v1 import tool_pb2
from services.executor import children, control_tools
from services.executor.agent_run import AgentRun
from services.executor.ending import degrade
from services.executor.journal import Journal
from services.executor.model_requests import ModelRequests
from services.executor.model_step import ModelStep
from services.executor.pattern import Pattern
from services.executor.plan_and_execute import PlanAndExecute
from services.executor.react import React
from services.executor.reflection import Reflection
from services.executor.session_memory import SessionMemory
from services.executor.single_shot import single_shot
from services.executor.supervisor import Supervisor
from services.executor.tool_use import SKIPPED, ToolUse

_TOO_DEEP: Final = (
    f"The task stands below {children.MAX_DEPTH} others, so it was done without workers."
)


@dataclass(frozen=True, slots=True)
class Agents:
    """Every pattern, over the same steps."""

    model: ModelStep
    use: ToolUse
    memory: SessionMemory

    async def run(self, journal: Journal) -> None:
        """Runs one task from wherever its journal stands to its end, or until it waits.

        Raises:
            MeshError: A step failed; whether it may be repeated is for the caller to say.
            Fenced, CancelRequestedError: As Journal.append.
        """
        if _is_too_deep(journal):
            await degrade(journal, "WORKERS_SKIPPED", _TOO_DEEP)
        pattern = pattern_of(journal.events[0].submitted)
        tools: Mapping[str, tool_pb2.Tool] = {}
        if pattern.uses_tools:
            tools = await self._tools(journal)
        requests = ModelRequests(
            journal.task,
            journal.agent,
            tools,
            await self.memory.earlier(journal),
            await self.model.models.room(journal.agent.tier),
        )
        await AgentRun(
            journal=journal,
            pattern=pattern,
            tools=tools,
            requests=requests,
            model=self.model,
            use=self.use,
            memory=self.memory,
        ).run()

    async def _tools(self, journal: Journal) -> Mapping[str, tool_pb2.Tool]:
        agent = journal.agent
        tools: Mapping[str, tool_pb2.Tool] = {}
        try:
            tools = await self.use.tools.list(journal.tenant)
        except SKIPPED as error:
            if not journal.is_last_attempt:
                raise
            await degrade(journal, "TOOLS_SKIPPED", f"No tools were available: {error}")
        if not agent.tools:
            return tools
        # Those that make a task wait are for agents that ask for them. A tool that
        # the tenant registered under such a name comes before them.
        known = (
            (name, tools.get(name) or control_tools.TOOLS.get(name))
            for name in sorted(set(agent.tools))
        )
        return {name: tool for name, tool in known if tool is not None}


def pattern_of(submitted: TaskSubmitted) -> Pattern:
    """The pattern of a task's agent, at its beginning."""
    agent, task = submitted.agent, submitted.task
    match agent.pattern:
        case task_event_pb2.AGENT_PATTERN_SINGLE_SHOT:
            return single_shot(agent)
        case task_event_pb2.AGENT_PATTERN_PLAN_AND_EXECUTE:
            return PlanAndExecute(agent)
        case task_event_pb2.AGENT_PATTERN_REFLECTION:
            return Reflection(agent)
        case task_event_pb2.AGENT_PATTERN_SUPERVISOR if (
            not task.without_workers and task.depth < children.MAX_DEPTH
        ):
            return Supervisor(agent, submitted.workers)
        case _:
            return React(agent)


def _is_too_deep(journal: Journal) -> bool:
    return (
        journal.agent.pattern == task_event_pb2.AGENT_PATTERN_SUPERVISOR
        and not journal.task.without_workers
        and journal.task.depth >= children.MAX_DEPTH
    )
