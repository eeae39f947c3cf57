"""Istio repeats what mesh/envoy allows, and nothing else."""

from typing import Any

import pytest

from deploy.generated import PARTS_BY_NAME
from deploy.istio_routes import REPEATABLE, Repeats, repeats
from deploy.overlays import NAMES, of_kind, rendered, shipped
from tier.policy_contracts import offered


def _envoy(*routes: Any) -> Any:
    host = {"routes": list(routes)}
    config = {"typed_config": {"route_config": {"virtual_hosts": [host]}}}
    return {"static_resources": {"listeners": [{"filter_chains": [{"filters": [config]}]}]}}


def _route(pattern: str, on: str) -> Any:
    route = {"cluster": "desk", "retry_policy": {"retry_on": on}}
    return {"match": {"safe_regex": {"regex": pattern}}, "route": route}


def test_what_may_be_repeated_is_read_from_envoys_routes() -> None:
    """Those whose routes repeat calls of broken connections, method by method."""
    envoy = _envoy(
        _route(r"/a\.Letters/(Read|List)", "connect-failure,reset"),
        _route(r"/a\.Letters/Send", "connect-failure"),
        _route(r"/a\.Stamps/Print", "reset"),
        {"match": {"prefix": "/"}, "direct_response": {"status": 404}},
    )
    paths = ("/a.Letters/Read", "/a.Letters/List", "/a.Stamps/Print")
    assert repeats(envoy) == [Repeats("desk", paths)]


def test_a_list_that_cannot_be_read_is_refused() -> None:
    """Nothing is guessed about what may be repeated."""
    with pytest.raises(ValueError, match="is no list of the methods of one service"):
        repeats(_envoy(_route(r"/a\.Letters/.*", "reset")))


@pytest.mark.parametrize("name", ["staging", "production", "production-large"])
def test_services_repeat_as_on_one_machine(name: str) -> None:
    """Each route says what it repeats: the calls of mesh/envoy/proxy.yaml, or nothing."""
    expected = {each.callee: each.paths for each in repeats(shipped("mesh/envoy/proxy.yaml"))}
    found = {
        each["metadata"]["name"]: each["spec"]["http"]
        for each in of_kind(rendered(name), "VirtualService")
    }
    assert found.keys() == expected.keys()
    for callee, (repeated, rest) in found.items():
        assert [each["uri"]["exact"] for each in repeated["match"]] == [*expected[callee]]
        assert (repeated["retries"]["attempts"], repeated["retries"]["retryOn"]) == (2, REPEATABLE)
        assert rest["retries"] == {"attempts": 0}
        assert "match" not in rest


def test_nothing_that_changes_something_is_among_the_repeated() -> None:
    """By their names: what the contracts call safe to repeat only reads, or gives back."""
    found = [path for each in repeats(shipped("mesh/envoy/proxy.yaml")) for path in each.paths]
    assert len(found) == 7
    for path in found:
        method = path.rpartition("/")[2]
        assert method.startswith(("Get", "List", "Search", "Explain", "Embed", "Release")), path


@pytest.mark.parametrize("name", NAMES)
def test_every_service_of_the_contracts_has_a_way_in(name: str) -> None:
    """The gateway has a route for each, to who serves it, and one for health and reflection."""
    routed = {
        match["method"]["service"]: rule["backendRefs"][0]["name"].removesuffix("-stable")
        for each in of_kind(rendered(name), "GRPCRoute")
        for rule in each["spec"]["rules"]
        for match in rule.get("matches", ())
    }
    parts = {service: part for part, services in PARTS_BY_NAME.items() for service in services}
    built_in = {each for each in offered().services if each.startswith("grpc.")}
    assert routed == {**parts, **dict.fromkeys(built_in, "coordinator")}


@pytest.mark.parametrize("name", NAMES)
def test_credentials_end_at_the_gateway(name: str) -> None:
    """No service gets to see them, nor the scopes."""
    rules = [
        rule
        for each in of_kind(rendered(name), "GRPCRoute")
        for rule in each["spec"]["rules"]
        if each["spec"]["parentRefs"][0]["kind"] == "Gateway"
    ]
    assert len(rules) == 6
    for rule in rules:
        removed = rule["filters"][0]["requestHeaderModifier"]["remove"]
        assert {"authorization", "x-api-key", "x-agentmesh-scopes"} <= {*removed}


def test_a_canary_shares_new_calls_and_leaves_streams_alone() -> None:
    """Both versions are behind the route, and an old pod may take an hour to end its streams."""
    manifests = rendered("production")
    (route,) = [
        each
        for each in of_kind(manifests, "GRPCRoute")
        if each["metadata"]["name"] == "coordinator"
    ]
    for rule in route["spec"]["rules"]:
        assert [(each["name"], each["weight"]) for each in rule["backendRefs"]] == [
            ("coordinator-stable", 100),
            ("coordinator-canary", 0),
        ]
    (pod,) = [
        each["spec"]["template"]["spec"]
        for each in of_kind(manifests, "Deployment")
        if each["metadata"]["name"] == "coordinator"
    ]
    values = {each["name"]: each.get("value") for each in pod["containers"][0]["env"]}
    drain = int(str(values["AGENTMESH_DRAIN_SECONDS"]))
    # As long as the gateway of mesh/envoy lets a stream be, and then the process has time to end.
    assert drain == 3600 < pod["terminationGracePeriodSeconds"]


@pytest.mark.parametrize("name", NAMES)
def test_failing_instances_are_left_alone_and_new_ones_warm_up(name: str) -> None:
    """Each service has limits, an ejection that leaves some, and a beginning with few calls."""
    found = of_kind(rendered(name), "DestinationRule")
    assert {each["metadata"]["name"] for each in found} == {
        part for part, services in PARTS_BY_NAME.items() if services
    }
    for each in found:
        policy = each["spec"]["trafficPolicy"]
        assert policy["loadBalancer"]["warmup"]["duration"] == "3s"
        assert policy["outlierDetection"]["maxEjectionPercent"] == 67
        assert policy["connectionPool"]["http"]["http2MaxRequests"] == 4096
