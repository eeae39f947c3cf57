"""Agents: what they may be, how they change, and what a task takes of them."""

import asyncio

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import agent_service_pb2 as pb
from agentmesh.coordinator.v1 import task_event_pb2
from agentmesh.coordinator.v1.agent_service_pb2 import Agent
from agentmesh.coordinator.v1.task_event_pb2 import (
    AgentLimits,
    AgentSpec,
    ContextWindow,
    TaskSubmitted,
    TaskWorker,
)
from meshkit.errors import AgentNotFound, Conflict, InvalidField, RequestIdReused
from services.coordinator.coordinator_mesh import PARENT, Mesh

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]

_SUPERVISOR = task_event_pb2.AGENT_PATTERN_SUPERVISOR
_SCHEMA = '{"type": "object", "properties": {"a": {"type": "string"}}}'


async def _create(mesh: Mesh, agent_id: str, request_id: str = "", **spec: object) -> Agent:
    request = pb.CreateAgentRequest(
        parent=PARENT,
        agent_id=agent_id,
        spec=AgentSpec(**{"instructions": "x", **spec}),  # type: ignore[arg-type]
        request_id=request_id,
    )
    return (await mesh.agents.CreateAgent(request, timeout=60)).agent


async def _update(
    mesh: Mesh, agent_id: str, text: str, *, etag: str = "", request_id: str = ""
) -> Agent:
    agent = Agent(name=f"{PARENT}/agents/{agent_id}", spec=AgentSpec(instructions=text), etag=etag)
    request = pb.UpdateAgentRequest(agent=agent, request_id=request_id)
    return (await mesh.agents.UpdateAgent(request, timeout=60)).agent


async def _submitted(mesh: Mesh, **task: object) -> TaskSubmitted:
    name = (await mesh.submit(**task)).name  # type: ignore[arg-type]
    async for entry in mesh.log.read("acme", name.rpartition("/")[2]):
        return entry.event.submitted
    raise AssertionError


@pytest.mark.parametrize(
    ("spec", "field", "description"),
    [
        (AgentSpec(instructions=" "), "instructions", "must say what the agent is for"),
        (
            AgentSpec(instructions="x", description="x" * 1_001),
            "description",
            "must be at most 1,000 characters",
        ),
        (
            AgentSpec(instructions="x", max_steps=1_001),
            "max_steps",
            "must be from 1 to 1,000, or 0 for 16",
        ),
        (
            AgentSpec(instructions="x", pattern=77),  # type: ignore[arg-type]
            "pattern",
            "must be one of AGENT_PATTERN_UNSPECIFIED, AGENT_PATTERN_SINGLE_SHOT,"
            " AGENT_PATTERN_REACT, AGENT_PATTERN_PLAN_AND_EXECUTE, AGENT_PATTERN_REFLECTION,"
            " AGENT_PATTERN_SUPERVISOR",
        ),
        (
            AgentSpec(instructions="x", lane=9),  # type: ignore[arg-type]
            "lane",
            f"must be one of {', '.join(tier_pb2.Lane.keys())}",
        ),
        (
            AgentSpec(instructions="x", tier=9),  # type: ignore[arg-type]
            "tier",
            f"must be one of {', '.join(tier_pb2.ModelTier.keys())}",
        ),
        (
            AgentSpec(instructions="x", tools=["ok", "not ok"]),
            "tools[1]",
            "must be 1 to 63 lower-case letters, digits, _ or -, not 'not ok'",
        ),
        (
            AgentSpec(instructions="x", tools=["a", "b", "a"]),
            "tools[2]",
            "must not be given twice: a",
        ),
        (
            AgentSpec(instructions="x", tools=[f"t{n}" for n in range(129)]),
            "tools",
            "must be at most 128, not 129",
        ),
        (
            AgentSpec(instructions="x", output_schema="{"),
            "output_schema",
            "must be JSON: Expecting property name enclosed in double quotes: line 1 column 2"
            " (char 1)",
        ),
        (
            AgentSpec(instructions="x", output_schema='{"type": "array"}'),
            "output_schema.type",
            "must be 'object' at the root",
        ),
        (
            AgentSpec(
                instructions="x",
                output_schema='{"type": "object", "properties": {"a": {"type": "text"}}}',
            ),
            "output_schema.properties.a.type",
            "is no JSON Schema: 'text' is not valid under any of the given schemas",
        ),
        (
            AgentSpec(
                instructions="x",
                output_schema='{"properties": {"a": {"$ref": "https://example.com/a"}}}',
            ),
            "output_schema.properties.a.$ref",
            "must begin with #: no other document is fetched",
        ),
        (
            AgentSpec(instructions="x", limits=AgentLimits(max_tokens=-1)),
            "limits.max_tokens",
            "must be 0 or more, not -1",
        ),
        (
            AgentSpec(instructions="x", limits=AgentLimits(max_output_tokens=-5)),
            "limits.max_output_tokens",
            "must be 0 or more, not -5",
        ),
        (
            AgentSpec(instructions="x", limits=AgentLimits(max_revisions=9)),
            "limits.max_revisions",
            "must be from 0 to 8, not 9",
        ),
        (
            AgentSpec(instructions="x", limits=AgentLimits(max_revisions=2)),
            "limits.max_revisions",
            "has a meaning with AGENT_PATTERN_REFLECTION only",
        ),
        (
            AgentSpec(instructions="x", limits=AgentLimits(worker_max_tokens=2)),
            "limits.worker_max_tokens",
            "has a meaning with AGENT_PATTERN_SUPERVISOR only",
        ),
        (
            AgentSpec(instructions="x", pattern=_SUPERVISOR, limits=AgentLimits(max_workers=65)),
            "limits.max_workers",
            "must be from 0 to 64, not 65",
        ),
        (
            AgentSpec(instructions="x", context=ContextWindow(max_tokens=255)),
            "context.max_tokens",
            "must be 256 or more, or 0 for what the models take",
        ),
        (
            AgentSpec(instructions="x", context=ContextWindow(full_messages=101)),
            "context.full_messages",
            "must be from 1 to 100, or 0 for 5",
        ),
        (
            AgentSpec(instructions="x", workers=["assistant"]),
            "workers",
            "has a meaning with AGENT_PATTERN_SUPERVISOR only",
        ),
        (
            AgentSpec(instructions="x", pattern=_SUPERVISOR, workers=["assistant", "Bob"]),
            "workers[1]",
            "must look like 'tenants/{tenant}/agents/{agent}' ({tenant} is 1 to 63 lower-case"
            " letters, digits or hyphens, no hyphen first; {agent} is 1 to 63 lower-case letters,"
            " digits or hyphens, no hyphen first), not 'tenants/acme/agents/Bob'",
        ),
        (
            AgentSpec(instructions="x", pattern=_SUPERVISOR, workers=["tenants/globex/agents/a"]),
            "workers[0]",
            "must be an agent of tenant 'acme'",
        ),
        (
            AgentSpec(
                instructions="x",
                pattern=_SUPERVISOR,
                workers=["assistant", "tenants/acme/agents/assistant"],
            ),
            "workers[1]",
            "must not be given twice: tenants/acme/agents/assistant",
        ),
        (
            AgentSpec(instructions="x", pattern=_SUPERVISOR, workers=["ghost"]),
            "workers[0]",
            "must be an agent that exists: Tenant 'acme' has no agent 'ghost'. `agentmesh agent"
            " list` shows which exist.",
        ),
    ],
)
async def test_a_wrong_field_is_named_and_explained(
    mesh: Mesh, spec: AgentSpec, field: str, description: str
) -> None:
    """The same whether an agent is created or updated, under the path that the caller wrote."""
    with pytest.raises(InvalidField) as created:
        await mesh.agents.CreateAgent(
            pb.CreateAgentRequest(parent=PARENT, agent_id="a", spec=spec), timeout=60
        )
    with pytest.raises(InvalidField) as updated:
        await mesh.agents.UpdateAgent(
            pb.UpdateAgentRequest(agent=Agent(name=f"{PARENT}/agents/a", spec=spec)), timeout=60
        )
    for caught, path in ((created, f"spec.{field}"), (updated, f"agent.spec.{field}")):
        assert [(each.field, each.description) for each in caught.value.violations] == [
            (path, description)
        ]


async def test_every_wrong_field_is_told_at_once(mesh: Mesh) -> None:
    """Nobody has to come back for the next one."""
    spec = AgentSpec(max_steps=-1, tools=["A"], limits=AgentLimits(max_cost_micros=-1))
    with pytest.raises(InvalidField) as caught:
        await mesh.agents.CreateAgent(
            pb.CreateAgentRequest(parent=PARENT, agent_id="a", spec=spec), timeout=60
        )
    assert [each.field for each in caught.value.violations] == [
        "spec.instructions",
        "spec.max_steps",
        "spec.tools[0]",
        "spec.limits.max_cost_micros",
    ]


async def test_an_agent_with_every_field_is_kept_as_it_is(mesh: Mesh) -> None:
    """Nothing is lost or changed on the way."""
    await _create(mesh, "ann")
    spec = AgentSpec(
        instructions="Ask others.",
        pattern=_SUPERVISOR,
        tools=["calculator"],
        tier=tier_pb2.MODEL_TIER_FAST,
        max_steps=50,
        lane=tier_pb2.LANE_BATCH,
        output_schema=_SCHEMA,
        description="Hands out work.",
        use_session_memory=True,
        limits=AgentLimits(
            max_output_tokens=100,
            max_tokens=10_000,
            max_cost_micros=9,
            max_workers=3,
            worker_max_tokens=500,
            worker_max_cost_micros=2,
        ),
        workers=["ann", "assistant@1", "boss"],
        context=ContextWindow(max_tokens=4_000, full_messages=3),
    )
    request = pb.CreateAgentRequest(parent=PARENT, agent_id="boss", spec=spec)
    created = (await mesh.agents.CreateAgent(request, timeout=60)).agent
    spec.name = "tenants/acme/agents/boss@1"
    assert created.spec == spec


async def test_an_update_is_a_new_version_and_the_old_one_stays(mesh: Mesh) -> None:
    """New tasks run the new one; both can be looked at."""
    first = await _create(mesh, "a")
    second = await _update(mesh, "a", "y", etag=first.etag)
    assert (second.version, second.spec.name) == (2, "tenants/acme/agents/a@2")
    assert second.etag != first.etag
    for name, expected in (("a", second), ("a@1", first), ("a@2", second)):
        request = pb.GetAgentRequest(name=f"{PARENT}/agents/{name}")
        assert (await mesh.agents.GetAgent(request, timeout=60)).agent == expected
    assert (await mesh.submit(agent="a")).agent == "tenants/acme/agents/a@2"
    assert (await mesh.submit(agent="a@1")).agent == "tenants/acme/agents/a@1"


async def test_a_stale_etag_loses_no_update(mesh: Mesh) -> None:
    """Who has not seen the newest version is told; without an etag the last one wins."""
    first = await _create(mesh, "a")
    second = await _update(mesh, "a", "y", etag=first.etag)
    with pytest.raises(Conflict) as caught:
        await _update(mesh, "a", "z", etag=first.etag)
    assert str(caught.value) == (
        f"tenants/acme/agents/a has changed: version 2 has the etag {second.etag!r}, not"
        f" {first.etag!r}. Look at it, and update it again."
    )
    assert (await _update(mesh, "a", "z")).version == 3


@pytest.mark.parametrize("odd", ["a\nb", " a", "a ", "a\0b"])
async def test_a_request_id_is_one_line(mesh: Mesh, odd: str) -> None:
    """It is stored in a header, and would come back as another one."""
    with pytest.raises(InvalidField) as caught:
        await _create(mesh, "a", request_id=odd)
    assert str(caught.value) == "request_id: must be one line of text, without blanks at its ends"


async def test_a_repeated_update_answers_what_it_made(mesh: Mesh) -> None:
    """However late, whatever came after it, and whatever etag it had."""
    first = await _create(mesh, "a", request_id="r0")
    made = await _update(mesh, "a", "y", etag=first.etag, request_id="r1")
    await _update(mesh, "a", "z", request_id="r2")
    assert await _update(mesh, "a", "y", etag=first.etag, request_id="r1") == made
    assert await _create(mesh, "a", request_id="r0") == first
    for used in ("r0", "r1"):
        with pytest.raises(RequestIdReused):
            await _update(mesh, "a", "other", request_id=used)


async def test_updates_at_once_all_become_versions(mesh: Mesh) -> None:
    """Each has its own, and the same request twice has one."""
    await _create(mesh, "a")
    made = await asyncio.gather(
        *(_update(mesh, "a", f"y{n}", request_id=f"r{n // 2}") for n in (0, 0, 2, 2, 4, 4))
    )
    assert sorted(agent.version for agent in made) == [2, 2, 3, 3, 4, 4]
    assert made[0] == made[1]


@pytest.mark.parametrize(
    ("agent_id", "error", "text"),
    [
        ("ghost", AgentNotFound, "Tenant 'acme' has no agent 'ghost'. `agentmesh agent list`"),
        ("assistant", InvalidField, "agent.name: must not be assistant, which comes with"),
    ],
)
async def test_only_agents_of_the_tenant_can_be_updated(
    mesh: Mesh, agent_id: str, error: type[Exception], text: str
) -> None:
    """Not those that do not exist, and not those that come with Agentmesh."""
    with pytest.raises(error) as caught:
        await _update(mesh, agent_id, "y")
    assert text in str(caught.value)


async def test_workers_are_frozen_with_the_task(mesh: Mesh) -> None:
    """A task keeps the versions that there were when it was accepted."""
    await _create(mesh, "ann", description="Knows A.")
    await _create(mesh, "boss", pattern=_SUPERVISOR, workers=["ann", "assistant"])
    submitted = await _submitted(mesh, agent="boss")
    await _update(mesh, "ann", "y")
    assert list(submitted.workers) == [
        TaskWorker(name="tenants/acme/agents/ann@1", description="Knows A."),
        TaskWorker(
            name="tenants/acme/agents/assistant@1",
            description="Answers questions with the tenant's documents and tools.",
        ),
    ]
    assert submitted.agent.workers == [worker.name for worker in submitted.workers]
    later = await _submitted(mesh, agent="boss")
    assert later.workers[0].name == "tenants/acme/agents/ann@2"


@pytest.mark.parametrize(
    ("of_task", "of_agent", "cap"), [(0, 0, 0), (5, 0, 5), (0, 7, 7), (5, 7, 5), (9, 7, 7)]
)
async def test_the_smaller_cap_holds(mesh: Mesh, of_task: int, of_agent: int, cap: int) -> None:
    """That of the task or that of its agent; a repeat finds the same task."""
    await _create(mesh, "a", limits=AgentLimits(max_cost_micros=of_agent))
    task = await mesh.submit(request_id="r", agent="a", budget_micros=of_task)
    assert task.budget_micros == cap
    again = await mesh.submit(request_id="r", agent="a", budget_micros=of_task)
    assert again.name == task.name
