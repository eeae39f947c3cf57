"""The manifests that are made from the policy, the routes and the arithmetic of loads.

Pure functions; deploy/write.py writes what they return, and a test says whether the committed
files are that.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import yaml

from deploy import istio_policy, istio_routes, network_policies, sizing
from deploy.istio_entrance import entrance
from deploy.load_component import component
from tier.parts import PARTS
from tier.policy import Policy

_HEAD: Final = "# Written by `./bazelw run //platform/deploy:write`. Change what it is made from.\n"
# Whose queues scale the executors; see docs/operations.md.
TENANTS: Final = ("default",)
PARTS_BY_NAME: Final[Mapping[str, tuple[str, ...]]] = {each.name: each.services for each in PARTS}
_CALLED: Final = tuple(
    each.name for each in PARTS if any(each.name in other.calls for other in PARTS)
)
_SERVING: Final = tuple(each.name for each in PARTS if each.services)


class _Plain(yaml.SafeDumper):
    """Says everything where it stands; lists stand under what they belong to."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, indentless=False)


def _written(dumper: _Plain, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    represent: Any = cast(Any, dumper).represent_scalar
    return represent("tag:yaml.org,2002:str", text, style=style)


_Plain.add_representer(str, _written)


def manifests(
    policy: Policy, gateway: Mapping[str, Any], proxy: Mapping[str, Any]
) -> dict[str, str]:
    """The text of each file, by its path in the repository.

    Args:
        policy: mesh/policy.yaml.
        gateway: mesh/envoy/gateway.yaml.
        proxy: mesh/envoy/proxy.yaml.
    """
    parts = PARTS_BY_NAME
    network = network_policies.network_policies(policy, parts)
    sidecar = istio_policy.service_policies(policy, parts, ambient=False)
    ambient = istio_policy.service_policies(policy, parts, ambient=True)
    files = {
        "kubernetes/base/network-policies.yaml": network,
        "istio/base/policies.yaml": [
            istio_policy.nobody(),
            istio_policy.gateway_policy(policy),
            *istio_policy.store_policies(),
        ],
        "istio/base/gateway-routes.yaml": istio_routes.gateway_routes(parts),
        "istio/base/destinations.yaml": istio_routes.destinations(_SERVING),
        "istio/base/entrance.yaml": [entrance(policy, gateway)],
        "istio/sidecar/policies.yaml": sidecar,
        "istio/sidecar/routes.yaml": istio_routes.service_routes(proxy, _CALLED),
        "istio/ambient/policies.yaml": [*ambient, *istio_policy.waypoint_policies(parts)],
        "istio/ambient/routes.yaml": istio_routes.waypoint_routes(_SERVING),
        "istio/ambient/tunnels.yaml": [network_policies.tunnels()],
    }
    for level in sizing.LEVELS:
        for name, content in component(sizing.sizes(level), TENANTS).items():
            files[f"kubernetes/components/load-{level}/{name}"] = [content]
    return {f"mesh/{path}": _text(each) for path, each in files.items()}


def _text(documents: list[Any]) -> str:
    written = yaml.dump_all(documents, Dumper=_Plain, sort_keys=False, width=100)
    return _HEAD + written
