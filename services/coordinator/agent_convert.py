"""Agents as callers write them, checked: every field that is wrong is named."""

from collections.abc import Iterator, Sequence
from typing import Final

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_event_pb2
from agentmesh.coordinator.v1.task_event_pb2 import AgentLimits, AgentSpec
from meshkit import names
from meshkit.errors import InvalidField, TooLarge, Violation
from schemas.json_schema import answer_schema

_MAX_STEPS: Final = 1000
_MAX_INSTRUCTIONS_BYTES: Final = 64 * 1024
_MAX_DESCRIPTION: Final = 1_000
_MAX_SCHEMA_BYTES: Final = 32 * 1024
_MAX_TOOLS: Final = 128
_MAX_WORKERS: Final = 32
_MAX_REVISIONS: Final = 8
_MAX_PARTS: Final = 64
_LEAST_CONTEXT_TOKENS: Final = 256
_MAX_FULL_MESSAGES: Final = 100
_REFLECTION: Final = task_event_pb2.AGENT_PATTERN_REFLECTION
_SUPERVISOR: Final = task_event_pb2.AGENT_PATTERN_SUPERVISOR
# Limits that mean something with one pattern only, and the most each may be; 0 for any.
_OF_A_PATTERN: Final = {
    "max_revisions": (_REFLECTION, _MAX_REVISIONS),
    "max_workers": (_SUPERVISOR, _MAX_PARTS),
    "worker_max_tokens": (_SUPERVISOR, 0),
    "worker_max_cost_micros": (_SUPERVISOR, 0),
}


def agent_spec(spec: AgentSpec, *, tenant: str, field: str = "spec") -> AgentSpec:
    """A spec as an agent of `tenant` may have it.

    Raises:
        InvalidField: With every violation found, under `field`.
        TooLarge: The instructions are beyond 64 KiB.
    """
    size = len(spec.instructions.encode())
    if size > _MAX_INSTRUCTIONS_BYTES:
        raise TooLarge(
            f"{field}.instructions is {size:,} bytes; the limit is {_MAX_INSTRUCTIONS_BYTES:,}.",
            metadata={"limit_bytes": str(_MAX_INSTRUCTIONS_BYTES), "size_bytes": str(size)},
        )
    found = [
        Violation(f"{field}.{wrong.field}", wrong.description)
        for check in (_basics, _tools, _output_schema, _limits, _context)
        for wrong in check(spec)
    ]
    found += _workers(spec, tenant, field)
    if found:
        raise InvalidField.many(found)
    accepted = AgentSpec()
    accepted.CopyFrom(spec)
    accepted.ClearField("name")
    return accepted


def worker(wanted: str, *, tenant: str, field: str) -> tuple[str, int | None]:
    """Id and version of an agent that another one of `tenant` names as its worker.

    Raises:
        InvalidField: It is malformed, or another tenant's.
    """
    name = wanted if "/" in wanted else f"tenants/{tenant}/agents/{wanted}"
    owner, agent_id, version = names.parse_agent(name, field=field)
    if owner != tenant:
        raise InvalidField(field, f"must be an agent of tenant {tenant!r}")
    return agent_id, version


def _basics(spec: AgentSpec) -> Iterator[Violation]:
    if not spec.instructions.strip():
        yield Violation("instructions", "must say what the agent is for")
    if len(spec.description) > _MAX_DESCRIPTION:
        yield Violation("description", f"must be at most {_MAX_DESCRIPTION:,} characters")
    if not 0 <= spec.max_steps <= _MAX_STEPS:
        yield Violation("max_steps", f"must be from 1 to {_MAX_STEPS:,}, or 0 for 16")
    for name, value, known in (
        ("pattern", spec.pattern, task_event_pb2.AgentPattern),
        ("tier", spec.tier, tier_pb2.ModelTier),
        ("lane", spec.lane, tier_pb2.Lane),
    ):
        if value not in known.values():
            yield Violation(name, f"must be one of {', '.join(known.keys())}")


def _tools(spec: AgentSpec) -> Iterator[Violation]:
    if len(spec.tools) > _MAX_TOOLS:
        yield Violation("tools", f"must be at most {_MAX_TOOLS}, not {len(spec.tools)}")
        return
    for index, tool in enumerate(spec.tools):
        path = f"tools[{index}]"
        try:
            names.check("tool", tool, field=path)
        except InvalidField as error:
            yield from error.violations
        if tool in spec.tools[:index]:
            yield Violation(path, f"must not be given twice: {tool}")


def _output_schema(spec: AgentSpec) -> Iterator[Violation]:
    if not spec.output_schema:
        return
    size = len(spec.output_schema.encode())
    if size > _MAX_SCHEMA_BYTES:
        yield Violation(
            "output_schema", f"must be at most {_MAX_SCHEMA_BYTES:,} bytes, not {size:,}"
        )
        return
    try:
        answer_schema(spec.output_schema)
    except InvalidField as error:
        yield from error.violations


def _limits(spec: AgentSpec) -> Iterator[Violation]:
    for field in AgentLimits.DESCRIPTOR.fields:
        value = getattr(spec.limits, field.name)
        pattern, most = _OF_A_PATTERN.get(field.name, (None, 0))
        if value < 0 or (most and value > most):
            allowed = f"from 0 to {most}" if most else "0 or more"
            yield Violation(f"limits.{field.name}", f"must be {allowed}, not {value}")
        elif value and pattern is not None and spec.pattern != pattern:
            yield Violation(f"limits.{field.name}", _only_with(pattern))


def _context(spec: AgentSpec) -> Iterator[Violation]:
    context = spec.context
    if context.max_tokens and context.max_tokens < _LEAST_CONTEXT_TOKENS:
        yield Violation(
            "context.max_tokens",
            f"must be {_LEAST_CONTEXT_TOKENS} or more, or 0 for what the models take",
        )
    if not 0 <= context.full_messages <= _MAX_FULL_MESSAGES:
        yield Violation(
            "context.full_messages", f"must be from 1 to {_MAX_FULL_MESSAGES}, or 0 for 5"
        )


def _workers(spec: AgentSpec, tenant: str, field: str) -> Sequence[Violation]:
    if not spec.workers:
        return ()
    path = f"{field}.workers"
    if spec.pattern != _SUPERVISOR:
        return [Violation(path, _only_with(_SUPERVISOR))]
    if len(spec.workers) > _MAX_WORKERS:
        return [Violation(path, f"must be at most {_MAX_WORKERS}, not {len(spec.workers)}")]
    found: list[Violation] = []
    seen: set[tuple[str, int | None]] = set()
    for index, wanted in enumerate(spec.workers):
        try:
            named = worker(wanted, tenant=tenant, field=f"{path}[{index}]")
        except InvalidField as error:
            found.extend(error.violations)
            continue
        if named in seen:
            found.append(Violation(f"{path}[{index}]", f"must not be given twice: {wanted}"))
        seen.add(named)
    return found


def _only_with(pattern: int) -> str:
    return f"has a meaning with {task_event_pb2.AgentPattern.Name(pattern)} only"
