"""Istio's policies decide as mesh/policy.yaml says, and as Envoy does on one machine."""

from copy import deepcopy
from itertools import combinations, product
from typing import Any, Final

import pytest

from deploy import envoy_decision, istio_policy
from deploy.generated import PARTS_BY_NAME
from deploy.istio_decision import At, Call, allows
from deploy.names import GATEWAY, GATEWAY_ACCOUNT, NAME_LABEL, PORT, STORES, principal
from deploy.overlays import of_kind, one, rendered
from deploy.render import Manifest
from meshkit.constants import CALLER_KEY, ROLE_KEY, SCOPES_KEY, TENANT_KEY
from meshkit.identity import Role
from tier.policy import ROLES, Policy, roles_from
from tier.policy_contracts import offered, shipped
from tier.policy_rbac import gateway_rbac, proxy_rbac

_SPIFFE: Final = "spiffe://agentmesh.local"
# Whose tokens are taken, and what they are bound to, is an overlay's to say.
_ISSUER: Final = "https://issuer.example.com"
_SERVICES: Final = tuple(PARTS_BY_NAME)
_CALLEES: Final = tuple(name for name, services in PARTS_BY_NAME.items() if services)
_OTHER_PATHS: Final = ("/", "/agentmesh.tool.v1.ToolService/", "/agentmesh.tool.v1.ToolService/Run")


@pytest.fixture(name="policy", scope="module")
def _policy() -> Policy:
    return shipped()


@pytest.fixture(name="sidecars", scope="module")
def _sidecars() -> list[Manifest]:
    return of_kind(rendered("production"), "AuthorizationPolicy")


@pytest.fixture(name="ambient", scope="module")
def _ambient() -> list[Manifest]:
    return of_kind(rendered("production-ambient"), "AuthorizationPolicy")


def _paths() -> tuple[str, ...]:
    services = offered().services.items()
    return (*(f"/{name}/{each}" for name, methods in services for each in methods), *_OTHER_PATHS)


def _at(name: str) -> At:
    return At(labels={NAME_LABEL: name})


@pytest.mark.parametrize("callee", _CALLEES)
def test_services_may_call_what_the_policy_says(
    policy: Policy, sidecars: list[Manifest], ambient: list[Manifest], callee: str
) -> None:
    """Each pair of services and each RPC: the file, Envoy's rules, and both of Istio's agree."""
    envoy = proxy_rbac(policy, callee, spiffe=_SPIFFE)
    waypoint = At(target=("Service", callee))
    allowed = 0
    for caller, path in product(_SERVICES, _paths()):
        expected = any(
            path in edge.paths
            for edge in policy.edges
            if (edge.caller, edge.callee) == (caller, callee)
        )
        headers = {CALLER_KEY: f"service:{caller}"}
        call = Call(path, PORT, principal(caller), headers)
        assert allows(sidecars, _at(callee), call) is expected, call
        assert allows(ambient, waypoint, call) is expected, call
        assert (
            envoy_decision.allows(envoy, Call(path, PORT, f"{_SPIFFE}/{caller}", headers))
            is expected
        ), call
        allowed += expected
    assert allowed == sum(len(edge.paths) for edge in policy.edges if edge.callee == callee)


@pytest.mark.parametrize("callee", _CALLEES)
def test_nobody_plays_another(policy: Policy, sidecars: list[Manifest], callee: str) -> None:
    """Certificate and header must both be the caller's, or the call is refused."""
    envoy = proxy_rbac(policy, callee, spiffe=_SPIFFE)
    for edge in policy.edges:
        for held, said in product(("", *_SERVICES), ("", *_SERVICES)):
            if edge.callee != callee or held == said == edge.caller:
                continue
            headers = {CALLER_KEY: f"service:{said}"} if said else {}
            path = edge.paths[0]
            expected = held == said and any(
                path in each.paths
                for each in policy.edges
                if (each.caller, each.callee) == (held, callee)
            )
            call = Call(path, PORT, principal(held) if held else "", headers)
            assert allows(sidecars, _at(callee), call) is expected, call
            theirs = Call(path, PORT, f"{_SPIFFE}/{held}" if held else "", headers)
            assert envoy_decision.allows(envoy, theirs) is expected, call


def _held(policy: Policy) -> list[str | None]:
    """No scopes at all, each by itself, and some together."""
    names = sorted(policy.scopes)
    return [None, *names, *(" ".join(each) for each in combinations(names[:4], 3)), "unknown"]


def test_roles_and_scopes_are_what_the_policy_says(
    policy: Policy, sidecars: list[Manifest]
) -> None:
    """At the gateway, each role with each scope and each RPC: the file, Envoy and Istio agree."""
    envoy = gateway_rbac(policy)
    filters = one(rendered("production"), "EnvoyFilter", "entrance")["spec"]["configPatches"]
    (scopes,) = [
        each["patch"]["value"]["typed_config"]
        for each in filters
        if each["patch"]["value"]["name"] == "scopes"
    ]
    for role, held in product((*ROLES, None), _held(policy)):
        headers = {ROLE_KEY: role.value} if role else {}
        if held is not None:
            headers[SCOPES_KEY] = held
        for path in policy.paths():
            may = role is not None and role in roles_from(policy.role_of(path))
            scoped = held is None or policy.scope_of(path) in held.split()
            call = Call(path, 443, headers=headers)
            by_role = allows(sidecars, At(target=("Gateway", GATEWAY)), call)
            assert by_role is may, call
            assert (by_role and envoy_decision.allows(scopes, call)) is (may and scoped), call
            assert envoy_decision.allows(envoy, call) is (may and scoped), call


def test_what_the_policy_does_not_name_is_refused(sidecars: list[Manifest]) -> None:
    """At the gateway, for an admin too: Istio's gateway has nothing that is no RPC."""
    headers = {ROLE_KEY: Role.ADMIN.value}
    for path in (*_OTHER_PATHS, "/envoy.service.auth.v3.Authorization/Check"):
        call = Call(path, 443, headers=headers)
        assert not allows(sidecars, At(target=("Gateway", GATEWAY)), call), path


def test_two_credentials_are_refused(sidecars: list[Manifest]) -> None:
    """Else a key's tenant would be called with a token's role."""
    (path, *_) = [path for path in shipped().paths() if path.endswith("/GetTask")]
    headers = {ROLE_KEY: Role.USER.value, TENANT_KEY: "default"}
    gateway = At(target=("Gateway", GATEWAY))
    assert allows(sidecars, gateway, Call(path, 443, headers=headers, issuer=_ISSUER))
    both = {**headers, "x-api-key": "amk"}
    assert not allows(sidecars, gateway, Call(path, 443, headers=both, issuer=_ISSUER))


def test_an_issuer_gives_no_more_than_it_may(sidecars: list[Manifest]) -> None:
    """By its token one has the role and the tenant that are listed for it, and nobody has any by
    an issuer that is not listed; keys are bound by none of that.
    """
    (path, *_) = [path for path in shipped().paths() if path.endswith("/GetTask")]
    let_in = {
        (issuer, tenant, role)
        for issuer, tenant, role in product((_ISSUER, f"{_ISSUER}/other", ""), "ab", ROLES)
        if allows(
            _granting(sidecars),
            At(target=("Gateway", GATEWAY)),
            Call(path, 443, headers={ROLE_KEY: role.value, TENANT_KEY: tenant}, issuer=issuer),
        )
    }
    assert let_in == {
        *((_ISSUER, "a", role) for role in (Role.USER, Role.OPERATOR)),
        *(("", tenant, role) for tenant, role in product("ab", ROLES)),
    }


def _granting(policies: list[Manifest]) -> list[Manifest]:
    """As an overlay would have it: users and operators of the tenant a."""
    bounds: dict[str, list[str]] = {ROLE_KEY: ["user", "operator"], TENANT_KEY: ["a"]}
    changed = deepcopy(policies)
    (grants,) = [each for each in changed if each["metadata"]["name"] == "grants"]
    for header, values in bounds.items():
        (condition,) = [
            each
            for rule in grants["spec"]["rules"]
            for each in rule["when"]
            if each["key"] == f"request.headers[{header}]"
        ]
        condition["notValues"] = values
    return changed


@pytest.mark.parametrize("callee", _CALLEES)
def test_the_gateway_reaches_what_each_service_offers(
    policy: Policy, sidecars: list[Manifest], ambient: list[Manifest], callee: str
) -> None:
    """And what it asks itself, but nothing else."""
    expected = {
        *istio_policy.offered_by(policy, PARTS_BY_NAME, callee),
        *istio_policy.ASKED_BY_GATEWAYS.get(callee, ()),
    }
    asked = [each for own in istio_policy.ASKED_BY_GATEWAYS.values() for each in own]
    for path in (*_paths(), *asked):
        call = Call(path, PORT, principal(GATEWAY_ACCOUNT))
        assert allows(sidecars, _at(callee), call) is (path in expected), call
        assert allows(ambient, At(target=("Service", callee)), call) is (path in expected), call


def test_every_rpc_that_is_offered_has_a_service_behind_it(policy: Policy) -> None:
    """The gateway's paths are shared out among the services, each to one."""
    shared = [
        path
        for callee in _CALLEES
        for path in istio_policy.offered_by(policy, PARTS_BY_NAME, callee)
    ]
    assert sorted(shared) == sorted(policy.paths())


def test_pods_without_sidecars_are_reached_through_the_waypoint_alone(
    ambient: list[Manifest],
) -> None:
    """Whoever went past it would not be looked at."""
    for callee, caller in product(_CALLEES, ("waypoint", GATEWAY_ACCOUNT, *_SERVICES)):
        call = Call("", PORT, principal(caller))
        assert allows(ambient, _at(callee), call) is (caller == "waypoint"), (callee, caller)


@pytest.mark.parametrize("store", [each for each in STORES if each != "postgres"])
def test_stores_take_connections_of_those_who_use_them(
    sidecars: list[Manifest], ambient: list[Manifest], store: str
) -> None:
    """By certificate, and at the one port."""
    port, users = STORES[store]
    for caller in (*_SERVICES, GATEWAY_ACCOUNT, ""):
        for policies in (sidecars, ambient):
            call = Call("", port, principal(caller) if caller else "")
            assert allows(policies, _at(store), call) is (caller in users), call
            other = Call("", 9999, call.principal)
            assert not allows(policies, _at(store), other), other


def test_what_nobody_names_is_closed(sidecars: list[Manifest], ambient: list[Manifest]) -> None:
    """A pod that no policy is about takes nothing, from nobody."""
    for policies in (sidecars, ambient):
        assert not allows(policies, _at("executor"), Call("/", PORT, principal("coordinator")))


@pytest.mark.parametrize("planted", [{"notPaths": ["/a"]}, {"hosts": ["a"]}])
def test_what_the_evaluator_does_not_know_it_refuses(planted: dict[str, Any]) -> None:
    """So that no condition is passed over in silence."""
    policy = {"spec": {"action": "ALLOW", "rules": [{"to": [{"operation": planted}]}]}}
    with pytest.raises(ValueError, match="is not known here"):
        allows([policy], At(), Call("/a", 1))
