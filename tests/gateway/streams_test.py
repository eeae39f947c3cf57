"""Streams for those who read JSON: a line a message, or server-sent events."""

import json

import pytest

from tests.gateway.running_gateway import Answer, Front

pytest_plugins = ["tests.gateway.shared_gateways"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

_RUN = "/v1/tenants/default/tasks:run"


async def _run(running: Front, request_id: str, accept: str) -> Answer:
    body = json.dumps({"requestId": request_id}).encode()
    headers = {"content-type": "application/json", "accept": accept}
    return await running.gateway.http("POST", _RUN, body, headers)


@pytest.mark.parametrize("accept", ["text/event-stream", "application/json, text/event-stream"])
async def test_a_stream_becomes_server_sent_events(running: Front, accept: str) -> None:
    """Who accepts an event stream gets an event for each message, as browsers read them."""
    answer = await _run(running, "r1", accept)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
    events = answer.body.decode().split("\n\n")
    assert events.pop() == ""
    assert all(each.startswith("data: ") and "\n" not in each for each in events)
    messages = [json.loads(each.removeprefix("data: ")) for each in events]
    assert [list(each) for each in messages] == [["task"], ["event"], ["delta"]]


@pytest.mark.parametrize("accept", ["application/json", "*/*"])
async def test_others_get_a_line_a_message(running: Front, accept: str) -> None:
    """Who did not ask for events gets JSON as before."""
    answer = await _run(running, "r1", accept)
    assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
    messages = [json.loads(line) for line in answer.body.splitlines()]
    assert [list(each) for each in messages] == [["task"], ["event"], ["delta"]]


async def test_a_stream_that_does_not_begin_is_an_error(running: Front) -> None:
    """What fails before the first event has its status, and says in JSON why."""
    answer = await _run(running, "missing", "text/event-stream")
    assert answer.status == 404
    assert answer.json["message"] == "There is no task 'tenants/default/tasks/missing'."


async def test_a_single_answer_stays_one(running: Front) -> None:
    """A call that is no stream answers JSON to those who would take events, too."""
    answer = await running.gateway.http(
        "GET", "/v1/tenants/default/tasks/t1", headers={"accept": "text/event-stream"}
    )
    assert answer.status == 200
    assert answer.json["task"]["name"] == "tenants/default/tasks/t1"


async def test_events_of_nothing_are_not_found(running: Front) -> None:
    """A path that no call has is as unknown to them as to everybody."""
    answer = await running.gateway.http("GET", "/v1/no", headers={"accept": "text/event-stream"})
    assert (answer.status, answer.body) == (404, b"The mesh has nothing at this path.")
