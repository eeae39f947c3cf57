"""Protocol messages as plain values."""

from google.protobuf import any_pb2
from google.rpc import error_details_pb2

from agentmesh.coordinator.v1.task_pb2 import Task
from cli.plain import to_plain


def test_figures_are_numbers_at_any_depth() -> None:
    """64-bit figures are JSON numbers, in the message and in those inside it."""
    task = Task(budget_micros=1 << 53)
    task.usage.input_tokens = 7
    plain = to_plain(task)
    assert plain["budget_micros"] == 1 << 53
    assert plain["usage"]["input_tokens"] == 7


def test_plain_fields_are_always_there() -> None:
    """A script finds every plain field, also where it has no value."""
    plain = to_plain(Task())
    assert (plain["name"], plain["citations"], plain["labels"]) == ("", [], {})
    assert "usage" not in plain


def test_times_and_data_have_their_json_forms() -> None:
    """Times are RFC 3339 text, free data is itself."""
    task = Task()
    task.create_time.FromJsonString("2026-11-21T01:02:03Z")
    task.input.data.update({"n": 3, "list": ["a"]})
    plain = to_plain(task)
    assert plain["create_time"] == "2026-11-21T01:02:03Z"
    assert plain["input"]["data"] == {"n": 3, "list": ["a"]}


def test_details_of_errors_are_written_out() -> None:
    """The details of a status appear with their fields."""
    task = Task()
    task.error.message = "no"
    detail = any_pb2.Any()
    detail.Pack(error_details_pb2.ErrorInfo(reason="RATE_LIMITED", domain="agentmesh.dev"))
    task.error.details.append(detail)
    assert to_plain(task)["error"]["details"][0]["reason"] == "RATE_LIMITED"
