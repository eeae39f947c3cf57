"""A client of a later version calls services of this one."""

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import grpc
import pytest
import pytest_asyncio
from google.protobuf import json_format
from google.protobuf.message import Message

from meshkit import identity
from meshkit.identity import Identity
from meshtest.eventually import eventually
from tests.e2e.running_mesh import Client, running
from tests.mesh.rpc_call import Answer, Rpc, every_rpc
from tests.mesh.tenant_story import STORY, Step
from tests.upgrade.later_messages import fill, grown
from tier.api import Tier

_RPCS = {each.method.name: each for each in every_rpc()}
_METADATA = identity.to_metadata(Identity("acme", "user:later"))
# What is no fault of whoever answers.
_ANSWERS = {
    "OK",
    "UNIMPLEMENTED",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "FAILED_PRECONDITION",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    # Of those who watch what never comes.
    "DEADLINE_EXCEEDED",
}


class _Mesh:
    """Services of this version, and a channel to them."""

    def __init__(self, client: Client, channel: grpc.aio.Channel) -> None:
        self.client = client
        self.channel = channel

    async def served(self, rpc: Rpc, request: Message) -> Answer | None:
        """What comes of a request that is right, once what it names is there."""
        answer = await rpc.call(self.channel, request, _METADATA)
        for_services = "only services may" in answer.message
        assert answer.code in ("OK", "UNIMPLEMENTED") or for_services, answer
        return answer


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[_Mesh]:
    """A prototype, which has the services of every other tier."""
    async with (
        running(tmp_path_factory.mktemp("mesh"), Tier.PROTOTYPE) as client,
        grpc.aio.insecure_channel(client.mesh.address) as channel,
    ):
        yield _Mesh(client, channel)


@pytest.mark.asyncio(loop_scope="module")
async def test_requests_with_more_than_is_known_are_served_as_ever(mesh: _Mesh) -> None:
    """All that a tenant may do, with a field more in each message of its requests."""
    kept = {"tenant": "acme"}
    for step in STORY:
        if "gone" in str(step.request) or "$dead" in str(step.request):
            continue  # there is no dead letter here
        rpc = _RPCS[step.rpc]
        request = grown(rpc.request(step.filled(kept)))
        answer = await eventually(partial(mesh.served, rpc, request), 60)
        assert answer is not None
        kept |= _kept(step, answer)


@pytest.mark.asyncio(loop_scope="module")
async def test_values_that_are_not_known_are_refused_and_break_nothing(mesh: _Mesh) -> None:
    """Every RPC, with an unknown value in each of its enums: told what is wrong, or served."""
    wrong: dict[str, str] = {}
    for rpc in every_rpc():
        request = rpc.request()
        fill(request)
        answer = await rpc.call(mesh.channel, grown(request), _METADATA, timeout_seconds=3, most=1)
        if answer.code not in _ANSWERS:
            wrong[rpc.path] = str(answer)
    assert wrong == {}
    task = await mesh.client.submit("What is 2 + 2?")

    async def ended() -> bool:
        return "4" in (await mesh.client.get(task.name)).output.text

    await eventually(ended, 60)


def _kept(step: Step, answer: Answer) -> Mapping[str, str]:
    """What later steps name, from the last answer that has it."""
    kept: dict[str, str] = {}
    for name, way in step.keep.items():
        for each in answer.answers:
            fields = json_format.MessageToDict(each, preserving_proto_field_name=True)
            kept[name] = _at(fields, way.split(".")) or kept.get(name, "")
    return kept


def _at(value: Any, way: Sequence[str]) -> str:
    """The text there; of a list, in its first member."""
    if isinstance(value, list):
        value = cast(list[Any], value)[0]
    if not way:
        return str(value)
    return _at(value[way[0]], way[1:]) if way[0] in value else ""
