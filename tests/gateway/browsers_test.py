"""Pages in browsers, and what they are told of answers."""

import pytest

from tests.gateway.guarded import KEY, Guarded
from tests.gateway.shapes import status_by_web
from tests.gateway.shared_gateways import CONSOLE

pytest_plugins = ["tests.gateway.shared_gateways"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

_TASK = "/v1/tenants/acme/tasks/t1"
_GET = "/agentmesh.coordinator.v1.CoordinatorService/GetTask"
_HARDENING = {
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


@pytest.mark.parametrize("origin", [CONSOLE, "http://localhost:5173"])
async def test_pages_that_are_let_in_may_send_credentials(mesh: Guarded, origin: str) -> None:
    """A page of a site in the settings, or of this machine, may call with a key or a token, and
    its browser asks for that without one.
    """
    asked = await mesh.front.gateway.http(
        "OPTIONS",
        _GET,
        headers={
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type,x-api-key,x-grpc-web",
        },
    )
    assert asked.status == 200
    assert asked.headers["access-control-allow-origin"] == origin
    allowed = set(asked.headers["access-control-allow-headers"].split(", "))
    assert {"authorization", "x-api-key", "x-grpc-web"} <= allowed
    answer = await mesh.front.gateway.http(
        "GET", _TASK, headers={"origin": origin, "x-api-key": KEY}
    )
    assert (answer.status, answer.headers["access-control-allow-origin"]) == (200, origin)


async def test_a_page_can_read_why_it_is_refused(mesh: Guarded) -> None:
    """A refusal may be read by the page, too."""
    answer = await mesh.front.gateway.http("GET", _TASK, headers={"origin": CONSOLE})
    assert answer.status == 401
    assert answer.headers["access-control-allow-origin"] == CONSOLE
    status = await status_by_web(mesh.front.gateway, _GET, {"origin": CONSOLE})
    assert status.code == 16


@pytest.mark.parametrize(
    "origin", ["https://evil.example", f"{CONSOLE}.evil.example", "https://console.example.co"]
)
async def test_other_pages_may_not_call(mesh: Guarded, origin: str) -> None:
    """Pages of other sites are refused with the best of keys, and told nothing."""
    answer = await mesh.front.gateway.http(
        "GET", _TASK, headers={"origin": origin, "x-api-key": KEY}
    )
    assert answer.status == 403
    assert "access-control-allow-origin" not in answer.headers
    assert mesh.front.coordinator.calls == {}


@pytest.mark.parametrize("key", [KEY, None], ids=["an answer", "a refusal"])
async def test_browsers_are_told_to_show_nothing(mesh: Guarded, key: str | None) -> None:
    """Answers in JSON are data that no browser shows, keeps, or takes for something else; gRPC,
    which no browser reads, does not pay for that.
    """
    headers = {"x-api-key": key} if key else {}
    answer = await mesh.front.gateway.http("GET", _TASK, headers=headers)
    assert {name: answer.headers.get(name) for name in _HARDENING} == _HARDENING
    assert not any(name.startswith("x-envoy") or name == "server" for name in answer.headers)
    web = await mesh.front.gateway.http(
        "POST", _GET, b"\0\0\0\0\0", {"content-type": "application/grpc-web+proto", **headers}
    )
    assert not _HARDENING.keys() & web.headers.keys()
