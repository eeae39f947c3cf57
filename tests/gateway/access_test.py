"""Who is let in by the gateway, and what the others hear."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from agentmesh.coordinator.v1 import coordinator_service_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2, cost_governor_service_pb2_grpc
from meshkit.errors import from_rpc_error, from_status
from meshkit.identity import Role
from meshtest.eventually import eventually
from tests.gateway.credentials import TokenIssuer
from tests.gateway.guarded import KEY, OTHER_KEY, Guarded, guarded
from tests.gateway.running_gateway import Trace
from tests.gateway.shapes import status_by_json, status_by_web

pytest_plugins = ["tests.gateway.shared_gateways"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

_TASK = "tenants/acme/tasks/t1"
_GET = "/agentmesh.coordinator.v1.CoordinatorService/GetTask"
_NONE = (
    "The call brings no credentials: send an API key as `x-api-key: KEY`, or a token as"
    " `authorization: Bearer TOKEN`."
)
_CLAIMS = (
    "The token does not say who calls: its claims must name a tenant, a subject and a role,"
    " which is one of user, operator, admin."
)
_BAD_KEY = "The API key is malformed: it is amk_, an id, _ and 43 more characters."
_UNREADABLE = "The token cannot be read: it must be a JWT, in three parts, with a claim `exp`."


async def _get(mesh: Guarded, *metadata: tuple[str, str]) -> Any:
    request = coordinator_service_pb2.GetTaskRequest(name=_TASK)
    return (await mesh.stub.GetTask(request, timeout=60, metadata=metadata)).task


def _bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


async def test_a_token_says_who_calls(mesh: Guarded) -> None:
    """Tenant, subject and role of a token reach the service, and nobody else is asked."""
    token = mesh.issuer.token(subject="ann@example.com", tenant="acme", role=Role.OPERATOR)
    task = await _get(mesh, _bearer(token))
    assert (task.tenant, task.labels["caller"], task.labels["role"]) == (
        "acme",
        "user:ann@example.com",
        "operator",
    )
    assert mesh.keys.asked == []


@pytest.mark.parametrize("header", [("x-api-key", KEY), _bearer(KEY)], ids=["x-api-key", "bearer"])
async def test_a_key_says_who_calls(mesh: Guarded, header: tuple[str, str]) -> None:
    """A key may stand in either header; whose it is the coordinator says, asked once, and of
    the request it is told the credentials alone.
    """
    task = await _get(mesh, header)
    assert (task.tenant, task.labels["caller"], task.labels["role"]) == (
        "acme",
        "key:01jd0000key1",
        "user",
    )
    (asked,) = mesh.keys.asked
    assert {key: asked[key] for key in asked if not key.startswith(":")} == {
        header[0]: header[1],
        "content-type": "application/grpc",
    }


async def test_credentials_end_at_the_gateway(mesh: Guarded) -> None:
    """Neither keys nor tokens nor scopes, nor the gateway's own notes, reach a service."""
    mesh.knows(KEY, scopes="tasks:read")
    known = {"x-agentmesh-caller", "x-agentmesh-role", "x-agentmesh-tenant"}
    for header, told in (
        (("x-api-key", KEY), known),
        (_bearer(KEY), known),
        (_bearer(mesh.issuer.token()), known | {"x-agentmesh-expires"}),
    ):
        seen = (await _get(mesh, header)).labels["headers"].split()
        assert {each for each in seen if "agentmesh" in each} == told
        assert not {"authorization", "x-api-key"} & set(seen)


@dataclass(frozen=True)
class Refused:
    """What a call brings that is refused, and what is said of it."""

    credential: str
    message: str
    # Claims of a token other than the usual ones; None leaves one out.
    claims: Mapping[str, Any] | None = None
    header: tuple[str, str] | None = None

    def headers(self, issuer: TokenIssuer) -> dict[str, str]:
        """Those of the call."""
        if self.claims is not None:
            without = next((key for key, value in self.claims.items() if value is None), "")
            given = {key: value for key, value in self.claims.items() if value is not None}
            key, value = _bearer(issuer.signed(without, **given))
            return {key: value}
        return dict([self.header]) if self.header else {}


_REFUSED = {
    "nothing": Refused("none", _NONE),
    "another scheme": Refused("none", _NONE, header=("authorization", "Basic YW5uOmFubg==")),
    "half a token": Refused("malformed", _UNREADABLE, header=_bearer("eyJhbGciOiJFUzI1NiJ9.e30")),
    "a token without a signature": Refused(
        "malformed", _UNREADABLE, header=_bearer("eyJhbGciOiJub25lIn0.e30.")
    ),
    "half a key": Refused("malformed", _BAD_KEY, header=("x-api-key", KEY[:-1])),
    "half a bearer key": Refused("malformed", _BAD_KEY, header=_bearer(KEY[:-1])),
    "a key in capitals": Refused("malformed", _BAD_KEY, header=("x-api-key", KEY.upper())),
    "two keys": Refused("malformed", _BAD_KEY, header=("x-api-key", f"{KEY},{KEY}")),
    "an expired token": Refused(
        "expired", "The token has expired: get another.", claims={"exp": int(time.time()) - 60}
    ),
    "a token for tomorrow": Refused(
        "early",
        "The token is not valid yet: is a clock wrong?",
        claims={"nbf": int(time.time()) + 86_400},
    ),
    "somebody else's token": Refused(
        "issuer",
        "The token is of an issuer that this mesh does not know: see its claim `iss`.",
        claims={"iss": "https://elsewhere.example"},
    ),
    "a token for somebody else": Refused(
        "audience",
        "The token is meant for somebody else: its claim `aud` does not name this mesh.",
        claims={"aud": "payroll"},
    ),
    "a token for ever": Refused(
        "signature",
        "The token's signature is wrong, or it has no claim `exp`: get another from an issuer"
        " that this mesh knows.",
        claims={"exp": None},
    ),
    "no tenant": Refused("claims", _CLAIMS, claims={"tenant": None}),
    "no subject": Refused("claims", _CLAIMS, claims={"sub": None}),
    "no role": Refused("claims", _CLAIMS, claims={"role": None}),
    "a service's role": Refused("claims", _CLAIMS, claims={"role": "service"}),
    "two roles": Refused("claims", _CLAIMS, claims={"role": ["user", "admin"]}),
    "a tenant that is none": Refused("claims", _CLAIMS, claims={"tenant": "Acme Inc"}),
    "a subject that is none": Refused("claims", _CLAIMS, claims={"sub": "ann\u00e9"}),
}


async def test_who_shows_nothing_good_is_told_why(mesh: Guarded) -> None:
    """Over gRPC, gRPC-web and JSON alike the error says what is wrong with the credentials, and no
    service and no coordinator hears of the call.
    """
    heard: dict[tuple[str, str], tuple[Any, str, str]] = {}
    for name, each in _REFUSED.items():
        headers = each.headers(mesh.issuer)
        for shape, asked in (("grpc", _by_grpc), ("web", _by_web), ("json", _by_json)):
            status = await asked(mesh, headers)
            error = from_status(status)
            info = error_details_pb2.ErrorInfo()
            status.details[0].Unpack(info)
            assert (info.domain, info.reason) == ("agentmesh.dev", "UNAUTHENTICATED"), (name, shape)
            heard[name, shape] = (error.code, info.metadata["credential"], error.message)
    assert heard == {
        (name, shape): (grpc.StatusCode.UNAUTHENTICATED, each.credential, each.message)
        for name, each in _REFUSED.items()
        for shape in ("grpc", "web", "json")
    }
    assert (mesh.front.coordinator.calls, mesh.keys.asked) == ({}, [])


async def test_where_several_issuers_are_trusted_refusals_are_the_same(tmp_path: Path) -> None:
    """Whose token it could have been makes no difference to what is said of it."""
    also = [
        TokenIssuer(tmp_path / f"{number}.json", f"https://{number}.example").issuer
        for number in (1, 2)
    ]
    async with guarded(tmp_path, also) as mesh:
        await test_who_shows_nothing_good_is_told_why(mesh)


async def test_a_key_that_the_coordinator_refuses_does_not_enter(mesh: Guarded) -> None:
    """What the coordinator says of a key is what its caller hears."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _get(mesh, ("x-api-key", OTHER_KEY))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert caught.value.details() == "The API key is unknown."
    assert mesh.front.coordinator.calls == {}


async def test_a_key_counts_before_a_token(mesh: Guarded) -> None:
    """Who shows both is known by the key; a token does not make up for a key that is refused."""
    token = mesh.issuer.token(role=Role.ADMIN)
    task = await _get(mesh, ("x-api-key", KEY), _bearer(token))
    assert (task.labels["caller"], task.labels["role"]) == ("key:01jd0000key1", "user")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _get(mesh, ("x-api-key", OTHER_KEY), _bearer(token))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_an_answer_without_a_caller_does_not_enter(mesh: Guarded) -> None:
    """A yes from the coordinator that does not say whose the key is lets nobody in."""
    mesh.keys.known[KEY] = {"x-agentmesh-tenant": "acme"}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _get(mesh, ("x-api-key", KEY))
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert mesh.front.coordinator.calls == {}


async def test_keys_wait_for_a_coordinator_and_tokens_do_not(mesh: Guarded) -> None:
    """Where nobody can say whose a key is, its caller is told to come back; the reason is the
    mesh's and not the key's.
    """
    mesh.keys.fails = True
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _get(mesh, ("x-api-key", KEY))
    error = from_rpc_error(caught.value)
    assert (error.code, error.reason, error.message, error.retry_after_seconds) == (
        grpc.StatusCode.UNAVAILABLE,
        "DEPENDENCY_UNAVAILABLE",
        "API keys cannot be checked now: try again, or call with a token.",
        1.0,
    )
    assert (await _get(mesh, _bearer(mesh.issuer.token()))).tenant == "acme"


@pytest.mark.parametrize(
    ("role", "scopes", "error"),
    [
        (
            "user",
            None,
            (
                "The call takes the role operator or admin: ask an administrator of the mesh.",
                {"role": "operator"},
            ),
        ),
        (
            "operator",
            "tasks:read tasks:write",
            (
                "The call takes an API key with the scope budgets:write, or one without scopes.",
                {"scope": "budgets:write"},
            ),
        ),
        ("operator", "budgets:write", None),
        ("operator", None, None),
        ("admin", None, None),
    ],
)
async def test_a_call_takes_its_role_and_scope(
    mesh: Guarded, role: str, scopes: str | None, error: tuple[str, dict[str, str]] | None
) -> None:
    """Who lacks the role or the scope for a call is told which it takes, over JSON as over gRPC;
    who has both gets as far as the service.
    """
    mesh.knows(KEY, role=role, **({"scopes": scopes} if scopes else {}))
    stub: Any = cost_governor_service_pb2_grpc.CostGovernorServiceStub(mesh.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.SetBudget(
            cost_governor_service_pb2.SetBudgetRequest(), timeout=60, metadata=[("x-api-key", KEY)]
        )
    answer = await mesh.front.gateway.http(
        "POST", "/v1/budgets:set", b"{}", {"content-type": "application/json", "x-api-key": KEY}
    )
    if error is None:
        # The stand-in serves it not.
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert answer.status == 501
        return
    raised = from_rpc_error(caught.value)
    assert raised.code is grpc.StatusCode.PERMISSION_DENIED
    assert (raised.reason, raised.message, raised.metadata) == ("FORBIDDEN", *error)
    assert (answer.status, answer.json["message"]) == (403, error[0])


async def test_the_gateway_says_that_it_is_well(mesh: Guarded) -> None:
    """Whoever asks at /healthz needs no credentials, and gets none of anybody else's."""
    answer = await mesh.front.gateway.http("GET", "/healthz")
    assert (answer.status, answer.body) == (200, b"")
    for path in ("/healthz/", "/healthz/../v1/tenants/acme/tasks", "/HEALTHZ"):
        assert (await mesh.front.gateway.http("GET", path)).status == 401


async def test_the_access_log_says_who_and_never_by_what(mesh: Guarded) -> None:
    """A line has tenant, caller and role, or why there is none, and no credentials."""
    token, trace = mesh.issuer.token(), Trace()
    await _get(mesh, trace.header, _bearer(token))
    await _get(mesh, trace.header, ("x-api-key", KEY))
    await mesh.front.gateway.http(
        "GET", f"/v1/{_TASK}?access_token={token}", headers=[trace.header]
    )

    async def lines() -> list[Any]:
        found = mesh.front.gateway.access_of(trace)
        assert len(found) == 3
        return found

    by_token, by_key, refused = await eventually(lines, 60)
    assert [by_token[each] for each in ("tenant", "caller", "role")] == ["acme", "user:ann", "user"]
    assert by_key["caller"] == "key:01jd0000key1"
    assert (refused["caller"], refused["details"]) == (
        None,
        "jwt_authn_access_denied{Jwt_is_missing}",
    )
    written = mesh.front.gateway.access_log.read_text()
    assert token not in written
    assert KEY not in written
    assert "s" * 20 not in written


async def _by_grpc(mesh: Guarded, headers: Mapping[str, str]) -> status_pb2.Status:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _get(mesh, *headers.items())
    trailers: Any = caught.value.trailing_metadata()
    status = status_pb2.Status.FromString(dict(trailers)["grpc-status-details-bin"])
    assert (caught.value.code().value[0], caught.value.details()) == (status.code, status.message)
    return status


async def _by_web(mesh: Guarded, headers: Mapping[str, str]) -> status_pb2.Status:
    return await status_by_web(mesh.front.gateway, _GET, headers)


async def _by_json(mesh: Guarded, headers: Mapping[str, str]) -> status_pb2.Status:
    return await status_by_json(mesh.front.gateway, f"/v1/{_TASK}", headers)
