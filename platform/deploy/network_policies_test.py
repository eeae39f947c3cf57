"""NetworkPolicies let through the connections that the mesh has, and no others."""

from itertools import product
from typing import Final

import pytest

from deploy.generated import PARTS_BY_NAME
from deploy.names import GATEWAY, PORT, STORES, selector
from deploy.network_decision import may_connect
from deploy.overlays import NAMES, of_kind, rendered
from tier.policy_contracts import shipped

_STRANGER: Final = {"app.kubernetes.io/name": "stranger"}


def _labels(name: str) -> dict[str, str]:
    return _STRANGER if name == "stranger" else selector(name)


@pytest.mark.parametrize("name", NAMES)
def test_a_service_is_reached_by_who_may_call_it(name: str) -> None:
    """Each pair of pods: as the policy has edges, and the gateway to whoever offers something."""
    policies = of_kind(rendered(name), "NetworkPolicy")
    edges = {(edge.caller, edge.callee) for edge in shipped().edges}
    edges |= {(GATEWAY, part) for part, services in PARTS_BY_NAME.items() if services}
    everybody = (*PARTS_BY_NAME, GATEWAY, *STORES, "stranger")
    for caller, callee in product(everybody, PARTS_BY_NAME):
        found = may_connect(policies, _labels(caller), _labels(callee), PORT)
        assert found is ((caller, callee) in edges), (caller, callee)
        assert not may_connect(policies, _labels(caller), _labels(callee), 22)


@pytest.mark.parametrize("name", NAMES)
def test_a_store_is_reached_by_who_uses_it(name: str) -> None:
    """At its one port; the servers of one store talk to each other besides."""
    policies = of_kind(rendered(name), "NetworkPolicy")
    everybody = (*PARTS_BY_NAME, GATEWAY, *STORES, "stranger")
    for store, (port, users) in STORES.items():
        for caller in everybody:
            if caller != store:
                found = may_connect(policies, _labels(caller), _labels(store), port)
                assert found is (caller in users), (caller, store)
    assert may_connect(policies, _labels("nats"), _labels("nats"), 6222)
    assert not may_connect(policies, _labels("tool"), _labels("nats"), 6222)
    assert not may_connect(policies, _labels("tool"), _labels("nats"), 8222)


def test_the_decision_wants_both_sides() -> None:
    """What one side lets out and the other does not let in does not come about."""
    policies = of_kind(rendered("production"), "NetworkPolicy")
    left = [each for each in policies if each["metadata"]["name"] not in ("nobody", "tool")]
    assert may_connect(policies, _labels("executor"), _labels("tool"), PORT)
    assert not may_connect(left, _labels("memory"), _labels("tool"), PORT)
    assert may_connect([], _STRANGER, _STRANGER, 1)
