"""What Envoy hears of requests with API keys."""

import base64
import json
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from google.rpc import status_pb2

from agentmesh.access.v1 import access_service_pb2 as pb
from meshkit import errors
from meshkit.api_key import ApiKeyText
from meshkit.errors import Unauthenticated
from meshkit.identity import Role
from meshtest.clock import FakeClock
from services.coordinator import access_world
from services.coordinator.access_world import ADMIN, Coordinator, after, headers_of, verdict
from services.coordinator.bootstrap_keys import BootstrapKey, BootstrapKeys

pytest_plugins = ["meshtest.fixtures"]

_GIVEN = ApiKeyText.make("localkey")


@pytest.fixture
def given(tmp_path: Path, clock: FakeClock) -> Path:
    """The file of the keys that the mesh was started with: an admin's."""
    known = BootstrapKey(
        id=_GIVEN.key_id,
        tenant="default",
        display_name="local administrator",
        role=Role.ADMIN,
        secret_sha256=_GIVEN.digest.hex(),
        ending=_GIVEN.ending,
        create_time=clock.now(),
    )
    path = tmp_path / "bootstrap_keys.json"
    path.write_text(BootstrapKeys(keys=(known,)).model_dump_json())
    return path


@pytest.fixture
async def mesh(
    nats_url: str, tmp_path: Path, clock: FakeClock, given: Path
) -> AsyncIterator[Coordinator]:
    """A coordinator whose clock stands still."""
    async with access_world.coordinator(
        nats_url, tmp_path, clock=clock, bootstrap_keys=given
    ) as made:
        yield made


async def test_a_key_says_who_calls(mesh: Coordinator) -> None:
    """Tenant, caller, role and scopes follow from the key alone; the key itself goes no further."""
    made = await mesh.create(role=pb.ROLE_OPERATOR, scopes=["tasks:*", "operate"])

    answer = await mesh.check(x_api_key=made.text, x_agentmesh_tenant="beta")

    who = {
        "x-agentmesh-tenant": "acme",
        "x-agentmesh-caller": f"key:{made.key.name.rpartition('/')[2]}",
        "x-agentmesh-role": "operator",
        "x-agentmesh-scopes": "tasks:read tasks:write operate",
    }
    assert answer.status.code == 0
    assert headers_of(answer) == who
    assert list(answer.ok_response.headers_to_remove) == ["x-api-key", "authorization"]


async def test_a_key_says_when_it_ends(mesh: Coordinator, clock: FakeClock) -> None:
    """So that no stream outlasts it."""
    made = await mesh.create(expire_time=after(clock, 3600.0))
    headers = headers_of(await mesh.check(x_api_key=made.text))
    assert headers["x-agentmesh-expires"] == str(int(clock.now().timestamp()) + 3600)


async def test_without_scopes_the_role_decides(mesh: Coordinator) -> None:
    """A key that is not limited has no header of scopes: an empty one would be no scope."""
    made = await mesh.create()
    assert headers_of(await mesh.check(x_api_key=made.text)).keys() == {
        "x-agentmesh-tenant",
        "x-agentmesh-caller",
        "x-agentmesh-role",
    }


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER  "])
async def test_a_key_may_come_as_a_bearer(mesh: Coordinator, scheme: str) -> None:
    """In `authorization`, whatever the case of the scheme."""
    made = await mesh.create()
    assert verdict(await mesh.check(authorization=f"{scheme}{made.text}")) == "passed"
    both = await mesh.check(authorization=f"{scheme}{made.text}", x_api_key=made.text)
    assert verdict(both) == "passed"


def _spoilt(text: str) -> str:
    """The same key with another secret of the right form."""
    return text[:-1] + ("A" if text[-1] != "A" else "B")


async def test_every_denial_says_what_was_wrong(mesh: Coordinator, clock: FakeClock) -> None:
    """None, two, malformed, unknown, expired and revoked are told apart."""
    good = await mesh.create()
    ends = await mesh.create(expire_time=after(clock, 60))
    revoked = await mesh.create()
    await mesh.revoke(revoked.key.name)
    await clock.advance(60)
    form = (
        "An API key is amk_, an id of lower-case letters and digits, _ and 43 more characters,"
        " all without blanks."
    )
    none = "The call has no API key: send one as `authorization: Bearer amk_...`."
    cases: list[tuple[Mapping[str, str], str, str]] = [
        ({}, "none", none),
        ({"authorization": "Basic abc"}, "none", none),
        (
            {"authorization": f"Bearer {good.text}", "x_api_key": ends.text},
            "malformed",
            "The call has two different credentials: send one of them.",
        ),
        ({"x_api_key": "amk_hello"}, "malformed", f"The API key is malformed. {form}"),
        (
            {"x_api_key": f"{good.text},{good.text}"},
            "malformed",
            f"The API key is malformed. {form}",
        ),
        ({"x_api_key": ApiKeyText.make("abcdefgh").text}, "unknown", "The API key is unknown."),
        ({"x_api_key": _spoilt(good.text)}, "unknown", "The API key is unknown."),
        ({"x_api_key": ends.text}, "expired", "The API key expired at 2026-01-01 00:01:00 UTC."),
        (
            {"x_api_key": revoked.text},
            "revoked",
            "The API key was revoked at 2026-01-01 00:00:00 UTC.",
        ),
    ]
    for headers, credential, message in cases:
        answer = await mesh.check(**headers)
        assert not answer.HasField("ok_response")
        error = errors.from_status(answer.status)
        assert type(error) is Unauthenticated
        assert (error.metadata["credential"], error.message) == (credential, message)


async def test_only_its_owner_learns_of_a_key(mesh: Coordinator, clock: FakeClock) -> None:
    """With a wrong secret the id of an ended key is as unknown as one that never was."""
    ends = await mesh.create(expire_time=after(clock, 60))
    revoked = await mesh.create()
    await mesh.revoke(revoked.key.name)
    await clock.advance(60)

    for each in (ends, revoked):
        assert await mesh.verdict(_spoilt(each.text)) == "unknown"


async def test_a_key_ends_exactly_at_its_time(mesh: Coordinator, clock: FakeClock) -> None:
    """A moment before it passes; from the very time on it is refused."""
    made = await mesh.create(expire_time=after(clock, 10))
    await clock.advance(9.999)
    assert await mesh.verdict(made.text) == "passed"
    await clock.advance(0.001)
    assert await mesh.verdict(made.text) == "expired"
    assert (await mesh.list())[0].state == pb.ApiKey.STATE_EXPIRED


async def test_revoked_counts_more_than_expired(mesh: Coordinator, clock: FakeClock) -> None:
    """A key that was revoked, and whose time came then, is called revoked."""
    made = await mesh.create(expire_time=after(clock, 10))
    await mesh.revoke(made.key.name)
    await clock.advance(60)
    assert await mesh.verdict(made.text) == "revoked"


class TestShapes:
    """A denial comes in the shape that the caller understands."""

    async def test_json(self, mesh: Coordinator) -> None:
        """Status 401, with the error as the gateway writes errors of services."""
        answer = await mesh.check(x_api_key="amk_x_y", content_type="application/json")
        denied = answer.denied_response
        assert denied.status.code == 401
        assert headers_of(answer) == {
            "content-type": "application/json",
            "www-authenticate": "Bearer",
        }
        assert json.loads(denied.body) == {
            "code": 16,
            "message": "The API key is malformed. An API key is amk_, an id of lower-case letters"
            " and digits, _ and 43 more characters, all without blanks.",
            "details": [
                {
                    "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                    "reason": "UNAUTHENTICATED",
                    "domain": "agentmesh.dev",
                    "metadata": {"credential": "malformed"},
                }
            ],
        }

    async def test_grpc(self, mesh: Coordinator) -> None:
        """Envoy makes UNAUTHENTICATED and the message of it; the details are added."""
        answer = await mesh.check(
            x_api_key=ApiKeyText.make("abcdefgh").text, content_type="application/grpc"
        )
        assert answer.denied_response.status.code == 401
        assert answer.denied_response.body == "The API key is unknown."
        (details,) = headers_of(answer).values()
        status = status_pb2.Status.FromString(base64.b64decode(details))
        assert errors.from_status(status).metadata == {"credential": "unknown"}

    async def test_grpc_web(self, mesh: Coordinator) -> None:
        """Trailers stand in the header, for there is no body."""
        answer = await mesh.check(
            x_api_key=ApiKeyText.make("abcdefgh").text, content_type="application/grpc-web+proto"
        )
        assert answer.denied_response.status.code == 200
        assert answer.denied_response.body == ""
        headers = dict(headers_of(answer))
        assert headers.pop("grpc-status-details-bin")
        assert headers == {
            "content-type": "application/grpc-web+proto",
            "grpc-status": "16",
            "grpc-message": "The API key is unknown.",
        }


class TestGivenKeys:
    """Keys that the mesh was started with."""

    async def test_they_count_from_the_start(self, mesh: Coordinator) -> None:
        """The owner's key is an admin's, before anybody made one."""
        answer = await mesh.check(x_api_key=_GIVEN.text)
        assert headers_of(answer) == {
            "x-agentmesh-tenant": "default",
            "x-agentmesh-caller": "key:localkey",
            "x-agentmesh-role": "admin",
        }

    async def test_they_are_listed(self, mesh: Coordinator, clock: FakeClock) -> None:
        """Among those of their tenant, made by the mesh."""
        (listed,) = await mesh.list(by=ADMIN, tenant="default")
        assert listed == pb.ApiKey(
            name="tenants/default/apiKeys/localkey",
            display_name="local administrator",
            role=pb.ROLE_ADMIN,
            create_time=clock.now(),
            creator="mesh",
            ending=_GIVEN.ending,
            state=pb.ApiKey.STATE_ACTIVE,
        )

    async def test_they_make_keys(self, mesh: Coordinator) -> None:
        """For any tenant, in their own name."""
        caller = access_world.Who("default", "key:localkey", Role.ADMIN)
        assert (await mesh.create(by=caller, tenant="beta")).key.creator == "key:localkey"

    async def test_they_can_be_revoked(
        self, mesh: Coordinator, nats_url: str, tmp_path: Path, given: Path
    ) -> None:
        """Once and for ever: also a coordinator that starts later, with the same file, refuses."""
        revoked = await mesh.revoke("tenants/default/apiKeys/localkey", by=ADMIN)
        assert revoked.revoker == "user:root"
        assert await mesh.verdict(_GIVEN.text) == "revoked"
        assert await mesh.list(by=ADMIN, tenant="default") == [revoked]
        async with access_world.coordinator(
            nats_url, tmp_path / "later", bootstrap_keys=given
        ) as later:
            assert await later.verdict(_GIVEN.text) == "revoked"


async def test_clocks_that_differ(
    mesh: Coordinator, nats_url: str, tmp_path: Path, clock: FakeClock
) -> None:
    """Each coordinator goes by its own clock, and a revocation holds whatever the clocks say."""
    behind = FakeClock(clock.now() - timedelta(seconds=30))
    async with access_world.coordinator(nats_url, tmp_path / "two", clock=behind) as other:
        ends = await mesh.create(expire_time=after(clock, 10))
        stays = await mesh.create()
        assert await other.verdict(ends.text) == "passed"
        await clock.advance(10)
        await behind.advance(10)
        assert await mesh.verdict(ends.text) == "expired"
        assert await other.verdict(ends.text) == "passed"
        await behind.advance(30)
        assert await other.verdict(ends.text) == "expired"
        await mesh.revoke(stays.key.name)
        await behind.advance(4)
        assert await other.verdict(stays.text) == "revoked"
