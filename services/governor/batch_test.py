"""A large batch leaves the event loop free for single calls."""

import asyncio
from collections.abc import Sequence

import pytest
from google.protobuf.duration_pb2 import Duration

from agentmesh.common.v1 import batch_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit import identity
from meshkit.errors import InvalidField, MeshError
from meshkit.identity import Identity
from services.governor.batch import MAX_ITEMS, PORTION, answer_all

_WHO = Identity("acme", "service:test")


class _Turns:
    """Counts the turns of the event loop."""

    def __init__(self) -> None:
        self.number = 0
        self._loop = asyncio.get_running_loop()
        self._next = self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self.number += 1
        self._next = self._loop.call_soon(self._turn)

    def stop(self) -> None:
        self._next.cancel()


def _items(count: int) -> list[pb.BatchAdmitItem]:
    return [
        pb.BatchAdmitItem(
            context=batch_pb2.ItemContext(
                index=index, tenant=_WHO.tenant, timeout=Duration(seconds=5)
            ),
            request=pb.AdmitRequest(key=f"{index}"),
        )
        for index in range(count)
    ]


def _encode(key: str, outcome: str) -> pb.AdmitResponse:
    return pb.AdmitResponse(budget=key, explanation=outcome)


@pytest.mark.parametrize("refused", [False, True])
async def test_no_turn_of_the_event_loop_is_given_to_more_than_a_portion(refused: bool) -> None:
    """Neither to reading it nor to what the counters are told; also where all of it is wrong."""
    turns = _Turns()
    decoded_in: list[int] = []
    told: list[int] = []

    def decode(request: pb.AdmitRequest) -> str:
        decoded_in.append(turns.number)
        if refused:
            raise InvalidField("key", "is wrong")
        return request.key

    async def act(calls: Sequence[str]) -> Sequence[str | MeshError]:
        told.append(len(calls))
        return [f"did {each}" for each in calls]

    with identity.use(_WHO):
        answers = await answer_all(_items(MAX_ITEMS), decode, act, _encode)
    turns.stop()
    assert [index for index, _ in answers] == list(range(MAX_ITEMS))
    assert max(decoded_in.count(each) for each in set(decoded_in)) == PORTION
    assert told == ([] if refused else [PORTION] * (MAX_ITEMS // PORTION))


async def test_what_is_no_more_than_a_portion_is_done_in_one_go() -> None:
    """The counters are asked once; answers come by index, errors among them."""
    told: list[Sequence[str]] = []

    def decode(request: pb.AdmitRequest) -> str:
        if request.key == "1":
            raise InvalidField("key", "is wrong")
        return request.key

    async def act(calls: Sequence[str]) -> Sequence[str | MeshError]:
        told.append(calls)
        return [f"did {each}" for each in calls]

    with identity.use(_WHO):
        answers = dict(await answer_all(_items(PORTION), decode, act, _encode))
    assert told == [[f"{each}" for each in range(PORTION) if each != 1]]
    assert answers[0] == pb.AdmitResponse(budget="0", explanation="did 0")
    assert getattr(answers[1], "message", "") == "key: is wrong"
