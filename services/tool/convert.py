"""The tool service's contract to its domain and back."""

from typing import Final

from google.protobuf.duration_pb2 import Duration

from agentmesh.common.v1.conversation_pb2 import ToolResult
from agentmesh.tool.v1 import tool_pb2
from agentmesh.tool.v1 import tool_service_pb2 as pb
from meshkit import errors, identity, names
from meshkit.json_struct import to_mapping, to_struct
from services.tool.executor import Execution, ToolRequest
from services.tool.tool import Answer, Effect, ToolSpec

_MAX_KEY_CHARACTERS: Final = 200
_EFFECTS: Final = {
    Effect.READ_ONLY: tool_pb2.EFFECT_READ_ONLY,
    Effect.IDEMPOTENT: tool_pb2.EFFECT_IDEMPOTENT,
    Effect.UNSAFE: tool_pb2.EFFECT_UNSAFE,
}


def tenant(parent: str) -> str:
    """The tenant that `parent` names; Forbidden where the caller acts for another."""
    (found,) = names.TENANT.parse(parent, field="parent")
    identity.require_tenant(parent)
    return found


def tool_name(name: str) -> tuple[str, str]:
    """Tenant and tool of a tool's name; Forbidden where the caller acts for another tenant."""
    found, tool = names.TOOL.parse(name, field="name")
    identity.require_tenant(name)
    return found, tool


def tool_request(request: pb.ExecuteToolRequest) -> ToolRequest:
    """What ExecuteTool asks for."""
    found = tenant(request.parent)
    if not request.HasField("call"):
        raise errors.InvalidField("call", "must say which tool to execute")
    if not request.call.tool:
        raise errors.InvalidField("call.tool", "must name the tool to execute")
    if len(request.idempotency_key) > _MAX_KEY_CHARACTERS:
        raise errors.InvalidField(
            "idempotency_key",
            f"must have at most {_MAX_KEY_CHARACTERS} characters,"
            f" not {len(request.idempotency_key)}",
        )
    return ToolRequest(
        tenant=found,
        tool=request.call.tool,
        arguments=request.call.arguments,
        idempotency_key=request.idempotency_key,
        session=request.session,
    )


def execute_response(
    request: pb.ExecuteToolRequest, execution: Execution
) -> pb.ExecuteToolResponse:
    """An execution as ExecuteTool answers it."""
    result = answer_to_result(execution.answer)
    result.call_id, result.tool = request.call.call_id, request.call.tool
    return pb.ExecuteToolResponse(
        result=result,
        replayed=execution.replayed,
        duration=_duration(execution.duration_seconds),
    )


def answer_to_result(answer: Answer) -> ToolResult:
    """An answer as a result, without the call that it belongs to."""
    return ToolResult(
        is_error=answer.is_error,
        text=answer.text,
        data=to_struct(answer.data) if answer.data is not None else None,
        citations=answer.citations,
    )


def answer_from_result(result: ToolResult) -> Answer:
    """The answer in a result."""
    return Answer(
        text=result.text,
        is_error=result.is_error,
        data=to_mapping(result.data) if result.HasField("data") else None,
        citations=tuple(result.citations),
    )


def tool(tenant: str, spec: ToolSpec) -> tool_pb2.Tool:
    """A built-in tool as it stands under a tenant."""
    return tool_pb2.Tool(
        name=names.TOOL.format(tenant=tenant, tool=spec.id),
        tool_id=spec.id,
        description=spec.description,
        parameters=to_struct(spec.parameters),
        effect=_EFFECTS[spec.effect],
        timeout=_duration(spec.timeout_seconds),
        built_in=True,
        result_schema=to_struct(spec.result_schema) if spec.result_schema is not None else None,
    )


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
