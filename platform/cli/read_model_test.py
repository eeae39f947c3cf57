"""The read model as operators see it."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentmesh.coordinator.v1 import read_model_service_pb2 as pb
from agentmesh.coordinator.v1.read_model_service_pb2_grpc import ReadModelServiceServicer
from cli.command_mesh import Commands, commands_for
from meshkit.errors import Conflict


class _ReadModel(ReadModelServiceServicer):
    """Rebuilds in two steps."""

    def __init__(self) -> None:
        self.ends = True
        self.is_busy = False

    async def GetReadModel(
        self, request: pb.GetReadModelRequest, context: Any
    ) -> pb.GetReadModelResponse:
        answer = pb.GetReadModelResponse(kind="postgresql", size_bytes=12_345_678)
        place = answer.streams.add(stream="TASKS", position=1200, last=1234, events_behind=34)
        place.behind.FromMilliseconds(1_500)
        return answer

    async def RebuildReadModel(
        self, request: pb.RebuildReadModelRequest, context: Any
    ) -> AsyncIterator[pb.RebuildReadModelResponse]:
        if self.is_busy:
            raise Conflict("The read model is being built again already.")
        yield pb.RebuildReadModelResponse(passed=600, total=1234)
        if self.ends:
            yield pb.RebuildReadModelResponse(passed=1234, total=1234, done=True)


@pytest.fixture
async def read_model() -> _ReadModel:
    return _ReadModel()


@pytest.fixture
async def commands(read_model: _ReadModel) -> AsyncIterator[Commands]:
    async with commands_for(ReadModelService=read_model) as commands:
        yield commands


async def test_its_state_is_a_line_for_each_stream(commands: Commands) -> None:
    """With its kind and its size."""
    result = await commands.run("read-model", "status")
    lines = result.stdout.splitlines()
    assert lines[0] == "postgresql, 12.3 MB"
    assert lines[2].split() == ["TASKS", "1,200", "1,234", "34", "1.5"]
    document = json.loads((await commands.run("read-model", "status", "--json")).stdout)
    assert document["kind"] == "postgresql"


async def test_a_rebuilding_is_shown_to_its_end(commands: Commands) -> None:
    """In a sentence, or as an object a line."""
    result = await commands.run("read-model", "rebuild")
    assert (result.exit_code, result.stdout) == (
        0,
        "The read model is built again, from 1,234 events.\n",
    )
    lines = (await commands.run("read-model", "rebuild", "--json")).stdout.splitlines()
    assert [json.loads(line).get("done", False) for line in lines] == [False, True]


async def test_a_rebuilding_that_fails_or_breaks_off_is_no_success(
    commands: Commands, read_model: _ReadModel
) -> None:
    """The exit code says so, and the text what to do."""
    read_model.ends = False
    result = await commands.run("read-model", "rebuild")
    assert result.exit_code == 1
    assert "The mesh stopped telling how far it is." in result.stderr
    read_model.is_busy = True
    result = await commands.run("read-model", "rebuild")
    assert result.exit_code == 1
    assert "(CONFLICT)" in result.stderr
