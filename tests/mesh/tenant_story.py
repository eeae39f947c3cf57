"""What a tenant does in a mesh: at least one right request for every RPC about its resources."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

# Stands in everything that the tenant writes, and in nothing of anybody else's.
SECRET: Final = "pelican"


@dataclass(frozen=True, slots=True)
class Step:
    """A request. `$tenant` in it, and what steps before have kept, is filled in."""

    rpc: str
    request: Mapping[str, Any]
    # What of the answers is kept, by name: the way to a field of the last one that has it.
    keep: Mapping[str, str] = field(default_factory=dict[str, str])

    def filled(self, kept: Mapping[str, str]) -> Any:
        """The request, ready to be sent."""
        return _filled(copy.deepcopy(dict(self.request)), kept)


def _filled(value: Any, kept: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(each, kept) for key, each in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list):
        return [_filled(each, kept) for each in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, str):
        for name, text in kept.items():
            value = value.replace(f"${name}", text)
    return value


_PARENT: Final = "tenants/$tenant"
_AGENT: Final = f"{_PARENT}/agents/clerk"
_SESSION: Final = f"{_PARENT}/sessions/desk"
_BUDGET: Final = f"{_PARENT}/budgets/task-type-day-sums"
_SCHEDULE: Final = f"{_PARENT}/schedules/nightly"
_TEXT: Final = f"What is 17 + 4, {SECRET}?"
_SPEC: Final = {"instructions": f"Answer as a {SECRET} does.", "use_session_memory": True}
_SAYS: Final = {"role": "ROLE_USER", "parts": [{"text": _TEXT}]}
_TASK: Final = {
    "agent": _AGENT,
    "input": {"text": _TEXT},
    "session": "desk",
    "labels": {"team": SECRET},
    "task_type": "sums",
}
_CONTEXT: Final = {"tenant": "$tenant", "timeout": "10s"}
_CALL: Final = {"call_id": "1", "tool": "calculator", "arguments": {"expression": "17 + 4"}}
_EXECUTE: Final = {"parent": _PARENT, "call": _CALL, "session": _SESSION}
_GENERATE: Final = {
    "messages": [_SAYS],
    "agent": _AGENT,
    "session": _SESSION,
    "task_type": "sums",
    "task_budget": {"task": "$task", "limit_micros": 1_000_000},
}
_ADMIT: Final = {"parent": _PARENT, "key": "once", "model": "offline", "task_type": "sums"}

# Who sends them in this order finds all that they name, a moment later. Models of the tier fast
# have to fail, and tasks of the lane batch must not be tried again.
STORY: Final = (
    Step("CreateAgent", {"parent": _PARENT, "agent_id": "clerk", "spec": _SPEC}),
    Step(
        "UpdateAgent",
        {"agent": {"name": _AGENT, "spec": {**_SPEC, "description": f"A {SECRET}."}}},
    ),
    Step("GetAgent", {"name": _AGENT}),
    Step("ListAgents", {"parent": _PARENT}),
    Step("StartRollout", {"agent": _AGENT, "version": 2, "percent": 10}),
    Step("GetRollout", {"agent": _AGENT}),
    Step(
        "UpsertDocuments",
        {
            "parent": _PARENT,
            "documents": [
                {
                    "uri": "file:///notes.md",
                    "title": f"Of the {SECRET}",
                    # "The pelican nests in April."
                    "content": "VGhlIHBlbGljYW4gbmVzdHMgaW4gQXByaWwu",
                    "media_type": "text/markdown",
                }
            ],
        },
        keep={"document": "results.document.name"},
    ),
    Step("Search", {"parent": _PARENT, "query": "When does it nest?"}),
    Step(
        "Search",
        {"parent": _PARENT, "query": "When does it nest in April?", "documents": ["$document"]},
    ),
    Step("AppendMessages", {"session": _SESSION, "messages": [_SAYS]}),
    Step("GetContext", {"session": _SESSION}),
    Step(
        "Remember",
        {"parent": _PARENT, "fact": {"subject": "nests", "text": SECRET}},
        keep={"fact": "fact.name"},
    ),
    Step("Recall", {"parent": _PARENT, "query": "nests", "subject": "nests"}),
    Step(
        "PutRecord",
        {"record": {"name": f"{_PARENT}/collections/nests/records/1", "data": {"of": SECRET}}},
    ),
    Step("GetRecord", {"name": f"{_PARENT}/collections/nests/records/1"}),
    Step("QueryRecords", {"parent": f"{_PARENT}/collections/nests"}),
    Step(
        "RegisterTool",
        {"parent": _PARENT, "tool": {"tool_id": "own", "description": SECRET}},
    ),
    Step("ListTools", {"parent": _PARENT}, keep={"tool": "tools.name"}),
    Step("GetTool", {"name": "$tool"}),
    Step("ExecuteTool", {**_EXECUTE, "idempotency_key": "once"}),
    Step("BatchExecuteTools", {"items": [{"context": _CONTEXT, "request": _EXECUTE}]}),
    Step("BatchExecuteToolsStream", {"items": [{"context": _CONTEXT, "request": _EXECUTE}]}),
    Step(
        "SubmitTask",
        {"parent": _PARENT, "task": _TASK, "request_id": "once"},
        keep={"task": "task.name"},
    ),
    Step(
        "BatchSubmitTasks",
        {"items": [{"context": _CONTEXT, "request": {"parent": _PARENT, "task": _TASK}}]},
    ),
    Step("RunTask", {"parent": _PARENT, "task": _TASK}),
    Step(
        "CreateAgent",
        {
            "parent": _PARENT,
            "agent_id": "gone",
            "spec": {**_SPEC, "tier": "MODEL_TIER_FAST"},
        },
    ),
    Step(
        "RunTask",
        {
            "parent": _PARENT,
            "task": {
                "agent": f"{_PARENT}/agents/gone",
                "input": {"text": _TEXT},
                "lane": "LANE_BATCH",
            },
        },
        keep={"dead": "task.name"},
    ),
    Step("GetTask", {"name": "$task"}),
    Step("ListTasks", {"parent": _PARENT, "agent": _AGENT, "session": "desk"}),
    # A page's token of one tenant opens no page of another.
    Step("ListTasks", {"parent": _PARENT, "page_size": 1}, keep={"page": "next_page_token"}),
    Step("ListTasks", {"parent": _PARENT, "page_token": "$page"}),
    Step("WatchTask", {"name": "$dead"}),
    Step("ListTaskEvents", {"name": "$task"}),
    Step("ListTaskEvents", {"name": "$task", "page_size": 1}, keep={"page": "next_page_token"}),
    Step("ListTaskEvents", {"name": "$task", "page_token": "$page"}),
    Step("SubmitFeedback", {"name": "$task", "verdict": "VERDICT_GOOD", "comment": SECRET}),
    Step("ListDeadLetters", {"parent": _PARENT}),
    Step("GetQueueStats", {"parent": _PARENT}),
    Step(
        "CreateSchedule",
        {
            "parent": _PARENT,
            "schedule_id": "nightly",
            "schedule": {"cron": "0 3 1 1 *", "task": _TASK},
        },
    ),
    Step(
        "UpdateSchedule",
        {"schedule": {"name": _SCHEDULE, "cron": "0 4 1 1 *", "task": _TASK}},
    ),
    Step("GetSchedule", {"name": _SCHEDULE}),
    Step("ListSchedules", {"parent": _PARENT}),
    Step(
        "SetBudget",
        {
            "budget": {
                "name": _BUDGET,
                "scope": "BUDGET_SCOPE_TASK_TYPE",
                "subject": "sums",
                "window": "BUDGET_WINDOW_DAY",
                "limit_micros": 5_000_000,
            }
        },
    ),
    Step("GetBudget", {"name": _BUDGET}),
    Step("ListBudgets", {"parent": _PARENT}),
    Step("ExplainBudget", {"parent": _PARENT, "task_type": "sums", "agent": _AGENT}),
    Step("GetSpend", {"parent": _PARENT}),
    Step("QuerySpend", {"parent": _PARENT, "group_by": ["SPEND_DIMENSION_AGENT"]}),
    Step("ListBudgets", {"parent": _PARENT, "page_size": 1}, keep={"page": "next_page_token"}),
    Step("ListBudgets", {"parent": _PARENT, "page_token": "$page"}),
    Step("ProjectSpend", {"parent": _PARENT}),
    Step("ExportSpend", {"parent": _PARENT, "format": "SPEND_FORMAT_CSV"}),
    Step("WatchAlerts", {"parent": _PARENT, "after_sequence": -1, "past_only": True}),
    Step("GetTaskProfile", {"parent": _PARENT, "task_type": "sums"}),
    Step("ListTaskProfiles", {"parent": _PARENT}),
    Step("ForecastCapacity", {"parent": _PARENT, "tasks_per_minute": {"sums": 1}}),
    Step("Generate", _GENERATE),
    Step("BatchGenerate", {"items": [{"context": _CONTEXT, "request": _GENERATE}]}),
    Step("BatchGenerateStream", {"items": [{"context": _CONTEXT, "request": _GENERATE}]}),
    Step("GenerateStream", {"request": _GENERATE}),
    Step("Classify", {"messages": [_SAYS]}),
    Step(
        "CreateApiKey",
        {"parent": _PARENT, "api_key": {"display_name": SECRET, "role": "ROLE_USER"}},
        keep={"key": "api_key.name"},
    ),
    Step("ListApiKeys", {"parent": _PARENT}),
    # For services alone.
    Step("Admit", _ADMIT),
    Step("BatchAdmit", {"items": [{"context": _CONTEXT, "request": _ADMIT}]}),
    Step("BatchAdmitStream", {"items": [{"context": _CONTEXT, "request": _ADMIT}]}),
    Step("Settle", {**_ADMIT, "usage": {"cost_micros": "1"}}),
    Step("BatchSettle", {"items": [{"context": _CONTEXT, "request": _ADMIT}]}),
    Step("BatchSettleStream", {"items": [{"context": _CONTEXT, "request": _ADMIT}]}),
    Step("AcquireLease", {"parent": _PARENT, "lease": "once", "amount_micros": "10"}),
    Step("Release", {"parent": _PARENT, "key": "once"}),
)

# What ends resources: to be sent last.
END: Final = (
    Step("PromoteRollout", {"agent": _AGENT}),
    Step("RollbackRollout", {"agent": _AGENT}),
    Step("CancelTask", {"name": "$task"}),
    Step("SignalTask", {"name": "$task", "signal": {"input": {"text": SECRET}}}),
    Step("RedriveDeadLetter", {"name": "$dead"}),
    Step("RedriveDeadLetters", {"parent": _PARENT}),
    Step("DiscardDeadLetter", {"name": "$dead"}),
    Step("RevokeApiKey", {"name": "$key"}),
    Step("DeleteSchedule", {"name": _SCHEDULE}),
    Step("DeleteBudget", {"name": _BUDGET}),
    Step("DeleteTool", {"name": f"{_PARENT}/tools/own"}),
    Step("DeleteDocuments", {"parent": _PARENT, "names": ["$document"]}),
    Step("Forget", {"parent": _PARENT, "session": _SESSION}),
)
