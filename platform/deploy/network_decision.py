"""Which connections NetworkPolicies let through between pods of one namespace, for tests."""

from collections.abc import Iterable, Mapping
from typing import Any

Labels = Mapping[str, str]


def may_connect(
    policies: Iterable[Mapping[str, Any]], source: Labels, to: Labels, port: int
) -> bool:
    """Whether both sides' policies agree to it. Pods that no policy is about agree to all."""
    specs = [each["spec"] for each in policies]
    return _agrees(specs, source, to, port, "Egress") and _agrees(
        specs, to, source, port, "Ingress"
    )


def _agrees(specs: Iterable[Any], own: Labels, peer: Labels, port: int, way: str) -> bool:
    about = [
        each for each in specs if way in each["policyTypes"] and _has(own, each["podSelector"])
    ]
    rules = [rule for each in about for rule in each.get(way.lower(), ())]
    peers = "to" if way == "Egress" else "from"
    return not about or any(
        (peers not in rule or any(_is(each, peer) for each in rule[peers]))
        and ("ports" not in rule or any(each["port"] == port for each in rule["ports"]))
        for rule in rules
    )


def _is(peer: Mapping[str, Any], labels: Labels) -> bool:
    # Who is named by namespace or address is no pod of this one.
    return set(peer) == {"podSelector"} and _has(labels, peer["podSelector"])


def _has(labels: Labels, selector: Mapping[str, Any]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items()
