"""Files with a task to submit on each line."""

import json
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

from google.protobuf.json_format import ParseDict, ParseError

from agentmesh.coordinator.v1.coordinator_service_pb2 import SubmitTaskRequest
from agentmesh.coordinator.v1.task_pb2 import Task
from cli.choices import LANES
from cli.problem import Problem
from cli.task_input import MAX_TEXT_BYTES
from cli.text_file import read_text

_EXAMPLE: Final = 'A line looks like {"text": "What is 2 + 2?", "lane": "batch"}.'
# Fields that a line has besides those of a task.
_INPUT: Final = ("text", "data")


def read(file: Path, *, parent: str, common: Task, request_id: str) -> dict[int, SubmitTaskRequest]:
    """The requests by the number of their line, from 1; empty lines are passed over.

    Args:
        file: JSON Lines; `-` for stdin.
        parent: The tenant's name.
        common: What holds for tasks that do not say otherwise.
        request_id: Put before the number of a line that has no id of its own. Where
            it is empty, ids are made up that nobody can repeat.

    Raises:
        Problem: A line is no task; it names the first, and nothing is to be submitted.
    """
    content = sys.stdin.read() if str(file) == "-" else read_text(file)
    prefix = request_id or f"cli-{uuid.uuid4()}"
    requests: dict[int, SubmitTaskRequest] = {}
    for number, line in enumerate(content.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            request = _request(line, common)
        except ValueError as error:
            raise Problem(f"{file}:{number}: {error}.", _EXAMPLE) from error
        request.parent = parent
        request.request_id = request.request_id or f"{prefix}-{number}"
        requests[number] = request
    if not requests:
        raise Problem(f"{file}: holds no task.", _EXAMPLE)
    return requests


def _request(line: str, common: Task) -> SubmitTaskRequest:
    """Raises ValueError where `line` is no task; the text says why."""
    if len(line.encode("utf-8", "surrogatepass")) > 2 * MAX_TEXT_BYTES:
        raise ValueError(f"has over {2 * MAX_TEXT_BYTES:,} bytes")
    try:
        value: Any = json.loads(line)
    except ValueError as error:
        raise ValueError(f"is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    given = dict(cast(Mapping[str, Any], value))
    request = SubmitTaskRequest()
    request_id = given.pop("request_id", "")
    if not isinstance(request_id, str):
        raise ValueError("request_id must be text")
    request.request_id = request_id
    inputs = {name: given.pop(name) for name in _INPUT if name in given}
    if inputs and "input" in given:
        raise ValueError("has both input and text or data")
    if inputs:
        given["input"] = inputs
    if "input" not in given:
        raise ValueError("has neither text nor data")
    if isinstance(given.get("lane"), str):
        given["lane"] = LANES.get(given["lane"], given["lane"])
    request.task.CopyFrom(common)
    try:
        ParseDict(given, request.task)
    except ParseError as error:
        raise ValueError(str(error).partition("\n")[0].rstrip(".")) from error
    return request
