"""Making, listing and revoking API keys on a real broker."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentmesh.access.v1 import access_service_pb2 as pb
from agentmesh.access.v1.access_service_pb2 import ApiKey
from meshkit.api_key import ApiKeyText
from meshkit.bus import Bus
from meshkit.errors import (
    ApiKeyNotFound,
    InvalidField,
    InvalidPageToken,
    RequestIdReused,
)
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from services.coordinator import api_keys
from services.coordinator.access_world import ADMIN, Coordinator, Who, after

pytest_plugins = ["services.coordinator.fixture_access"]


def _files_below(folder: Path) -> list[bytes]:
    return [each.read_bytes() for each in folder.rglob("*") if each.is_file()]


async def test_a_key_is_made_as_asked(coordinator: Coordinator, clock: FakeClock) -> None:
    """The answer has all that was asked for, who made it and when, and the key's text."""
    made = await coordinator.create(
        display_name="nightly build",
        role=pb.ROLE_USER,
        scopes=["tasks:*", "docs:read"],
        expire_time=after(clock, 3600),
    )

    text = ApiKeyText.parse(made.text)
    expected = ApiKey(
        name=f"tenants/acme/apiKeys/{text.key_id}",
        display_name="nightly build",
        role=pb.ROLE_USER,
        scopes=["tasks:read", "tasks:write", "docs:read"],
        expire_time=after(clock, 3600),
        create_time=clock.now(),
        creator="user:ann",
        ending=made.text[-4:],
        state=ApiKey.STATE_ACTIVE,
    )
    assert made.key == expected
    assert await coordinator.list() == [expected]


async def test_little_is_enough(coordinator: Coordinator) -> None:
    """A key that nothing is said of is a user's, for everything a user may, and does not end."""
    made = await coordinator.create()

    assert made.key.role == pb.ROLE_USER
    assert not made.key.scopes
    assert not made.key.HasField("expire_time")


async def test_the_secret_is_shown_once(coordinator: Coordinator) -> None:
    """A repeat answers the same key without its text, and makes none."""
    first = await coordinator.create(request_id="r-1", display_name="ci")
    again = await coordinator.create(request_id="r-1", display_name="ci")

    assert first.text
    assert again.text == ""
    assert again.key == first.key
    assert [each.name for each in await coordinator.list()] == [first.key.name]


async def test_a_request_id_stands_for_one_request(coordinator: Coordinator) -> None:
    """With other content it is refused; of another tenant it is another one."""
    made = await coordinator.create(request_id="r-1", display_name="ci")

    with pytest.raises(RequestIdReused) as raised:
        await coordinator.create(request_id="r-1", display_name="cd")
    assert str(raised.value) == f"request_id 'r-1' made '{made.key.name}' with other content."
    other = await coordinator.create(by=ADMIN, tenant="beta", request_id="r-1", display_name="cd")
    assert other.text


async def test_two_at_once_make_one_key(coordinator: Coordinator) -> None:
    """Of equal requests at the same moment one gets the text, and all the same key."""
    answers = await asyncio.gather(*(coordinator.create(request_id="r-1") for _ in range(8)))

    assert len({each.key.name for each in answers}) == 1
    assert [bool(each.text) for each in answers].count(True) == 1


async def test_nothing_of_the_secret_is_stored(
    coordinator: Coordinator, nats_server: NatsServer, tmp_path: Path
) -> None:
    """Neither the stream's messages nor the broker's files have the secret; its hash is there."""
    made = await coordinator.create(display_name="to be looked for")
    assert await coordinator.verdict(made.text) == "passed"
    key = ApiKeyText.parse(made.text)

    async with await Bus.connect(nats_server.url, name="reader") as bus:
        stored = [each async for each in bus.read("API_KEYS", "apikey.>")]
    assert [each.subject for each in stored if ".key." in each.subject] == [
        f"apikey.key.acme.{key.key_id}"
    ]
    secret = key.secret.encode()
    assert not any(
        secret in each.payload or secret in str(each.headers).encode() for each in stored
    )
    nats_server.kill()
    written = _files_below(tmp_path)
    assert not any(secret in each for each in written)
    assert any(key.digest in each for each in written)


async def test_pages_follow_each_other(coordinator: Coordinator) -> None:
    """Pages have every key once, in order of the ids, and their tokens fit the one list."""
    made = [(await coordinator.create()).key.name for _ in range(5)]

    request = pb.ListApiKeysRequest(parent="tenants/acme", page_size=2)
    found: list[str] = []
    while True:
        page = await coordinator.page(request)
        assert len(page.api_keys) <= 2
        found += [each.name for each in page.api_keys]
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
    assert found == sorted(made)
    with pytest.raises(InvalidPageToken):
        await coordinator.page(
            pb.ListApiKeysRequest(parent="tenants/beta", page_token=request.page_token), by=ADMIN
        )


async def test_revoking_is_for_good_and_repeatable(
    coordinator: Coordinator, clock: FakeClock
) -> None:
    """Who revoked a key first, and when, stays; the key stays in the list."""
    made = await coordinator.create()
    revoked = await coordinator.revoke(made.key.name)
    first_time = clock.now()
    await clock.advance(60)

    again = await coordinator.revoke(made.key.name, by=ADMIN)

    assert revoked.state == ApiKey.STATE_REVOKED
    assert revoked.revoker == "user:ann"
    assert revoked.revoke_time.ToDatetime(tzinfo=first_time.tzinfo) == first_time
    assert again == revoked
    assert await coordinator.list() == [revoked]


async def test_two_revoke_at_once(coordinator: Coordinator) -> None:
    """All succeed, and agree on who did it."""
    made = await coordinator.create()
    callers = [Who(caller=f"user:{name}") for name in ("a", "b", "c", "d")]

    answers = await asyncio.gather(
        *(coordinator.revoke(made.key.name, by=each) for each in callers)
    )

    assert len({each.revoker for each in answers}) == 1


async def test_an_unknown_key_cannot_be_revoked(coordinator: Coordinator) -> None:
    """The answer names the key and where to look."""
    with pytest.raises(ApiKeyNotFound) as raised:
        await coordinator.revoke("tenants/acme/apiKeys/abcdefgh")
    assert str(raised.value) == (
        "There is no API key 'tenants/acme/apiKeys/abcdefgh'."
        " `agentmesh key list` shows which exist."
    )


@pytest.mark.parametrize(
    ("fields", "field", "description"),
    [
        (
            {"display_name": "x" * 101},
            "api_key.display_name",
            "must be at most 100 characters, all of them to be seen",
        ),
        (
            {"display_name": "a\nb"},
            "api_key.display_name",
            "must be at most 100 characters, all of them to be seen",
        ),
        ({"role": 9}, "api_key.role", "must be a Role"),
        ({"scopes": ["tasks:read"] * 33}, "api_key.scopes", "must be at most 32"),
        (
            {"scopes": ["tasks:read", "tasks:fly"]},
            "api_key.scopes[1]",
            "must be one of tasks:read, tasks:write, agents:read, agents:write, docs:read,"
            " docs:write, tools:read, tools:write, tools:call, models:read, models:call,"
            " spend:read, spend:write, budgets:write, status:read, operate, keys,"
            " not 'tasks:fly'",
        ),
    ],
)
async def test_what_is_wrong_is_named(
    coordinator: Coordinator, fields: dict[str, Any], field: str, description: str
) -> None:
    """A key that cannot be is refused with the field's path and what would be right."""
    with pytest.raises(InvalidField) as raised:
        await coordinator.create(**fields)
    (violation,) = raised.value.violations
    assert (violation.field, violation.description) == (field, description)


@pytest.mark.parametrize("scope", ["", ":*", "*", "tasks", "tasks:", "tasks*", "tasks:read:*"])
async def test_only_scopes_of_the_policy_count(coordinator: Coordinator, scope: str) -> None:
    """What is no scope, and stands for none, is refused."""
    with pytest.raises(InvalidField) as raised:
        await coordinator.create(scopes=[scope])
    assert [each.field for each in raised.value.violations] == ["api_key.scopes[0]"]


async def test_a_key_begins_before_it_ends(coordinator: Coordinator, clock: FakeClock) -> None:
    """An end that is now or past is refused, one a second ahead is not."""
    with pytest.raises(InvalidField) as raised:
        await coordinator.create(expire_time=clock.now())
    (violation,) = raised.value.violations
    assert violation.field == "api_key.expire_time"
    assert violation.description == "must be later than now, 2026-01-01T00:00:00Z"
    assert (await coordinator.create(expire_time=after(clock, 1))).key.state == ApiKey.STATE_ACTIVE


async def test_a_tenant_has_a_limit(
    coordinator: Coordinator, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys in force are counted, those of other tenants and ended ones are not."""
    monkeypatch.setattr(api_keys, "MAX_IN_FORCE", 3)
    await coordinator.create(by=ADMIN, tenant="beta")
    one = await coordinator.create()
    await coordinator.create(expire_time=after(clock, 5))
    await coordinator.create()

    with pytest.raises(InvalidField) as raised:
        await coordinator.create()
    assert raised.value.violations[0].description == (
        "must be a tenant with fewer than 3 keys in force. Revoke some"
    )
    await coordinator.revoke(one.key.name)
    await coordinator.create()
    with pytest.raises(InvalidField):
        await coordinator.create()
    await clock.advance(5)
    await coordinator.create()


async def test_ended_keys_are_bounded_too(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who makes and revokes keys without end meets a limit."""
    monkeypatch.setattr(api_keys, "MAX_KEPT", 2)
    for _ in range(2):
        await coordinator.revoke((await coordinator.create()).key.name)

    with pytest.raises(InvalidField) as raised:
        await coordinator.create()
    assert raised.value.violations[0].description == (
        "must be a tenant with fewer than 2 keys, ended ones included: those are kept for 30 days"
    )


async def test_ended_keys_go_after_thirty_days(
    coordinator: Coordinator, nats_url: str, clock: FakeClock
) -> None:
    """Until then one sees what became of them; then nothing of them is stored, nor of their use."""
    ends = await coordinator.create(expire_time=after(clock, 60))
    revoked = await coordinator.create()
    stays = await coordinator.create()
    for each in (ends, revoked, stays):
        assert await coordinator.verdict(each.text) == "passed"
    await coordinator.revoke(revoked.key.name)
    await clock.advance(timedelta(days=30).total_seconds() - 3600)
    assert len(await coordinator.list()) == 3

    async def left() -> bool:
        await clock.advance(6 * 3600)
        return [each.name for each in await coordinator.list()] == [stays.key.name]

    await eventually(left)
    assert await coordinator.verdict(ends.text) == "unknown"
    async with await Bus.connect(nats_url, name="reader") as bus:
        subjects = await bus.subjects("API_KEYS", "apikey.>")
    assert {each.rpartition(".")[2] for each in subjects} == {
        "swept",
        stays.key.name.rpartition("/")[2],
    }
    assert await coordinator.verdict(stays.text) == "passed"


async def test_uses_are_noted(coordinator: Coordinator, clock: FakeClock) -> None:
    """The list tells when a key was used, give or take ten minutes."""
    made = await coordinator.create()
    assert not (await coordinator.list())[0].HasField("last_use_time")
    await clock.advance(30)
    used = clock.now()
    assert await coordinator.verdict(made.text) == "passed"

    async def noted() -> bool:
        await clock.advance(1)
        return (await coordinator.list())[0].HasField("last_use_time")

    await eventually(noted)
    assert (await coordinator.list())[0].last_use_time.ToDatetime(tzinfo=used.tzinfo) == used
