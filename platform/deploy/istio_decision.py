"""What Istio decides by AuthorizationPolicies, as its documentation says, for tests.

Of conditions it knows request headers and who issued a token; of operations paths and ports; of
sources principals. It refuses whatever else stands in a policy, so that nothing is passed over in
silence.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

_HEADER: Final = "request.headers["
_ISSUER: Final = "request.auth.claims[iss]"


@dataclass(frozen=True, slots=True)
class Call:
    """A call that reaches a proxy."""

    path: str
    port: int
    # Who calls by their certificate; empty for nobody.
    principal: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    # Who issued the call's token, if that was good; empty without one.
    issuer: str = ""


@dataclass(frozen=True, slots=True)
class At:
    """Where the proxy stands: at pods with these labels, or at a service or gateway of a name."""

    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    target: tuple[str, str] = ("", "")


def allows(policies: Iterable[Mapping[str, Any]], at: At, call: Call) -> bool:
    """Whether the call goes through. Only denials and permissions are looked at, no providers."""
    here = [each for each in policies if _is_at(each["spec"], at)]
    rules = [(each["spec"].get("action", "ALLOW"), each["spec"].get("rules", ())) for each in here]
    denied = any(_matches(rule, call) for action, own in rules if action == "DENY" for rule in own)
    allowing = [own for action, own in rules if action == "ALLOW"]
    allowed = not allowing or any(_matches(rule, call) for own in allowing for rule in own)
    return allowed and not denied


def _is_at(spec: Mapping[str, Any], at: At) -> bool:
    if targets := spec.get("targetRefs"):
        return any((each["kind"], each["name"]) == at.target for each in targets)
    labels = spec.get("selector", {}).get("matchLabels", {})
    return labels.items() <= at.labels.items()


def _matches(rule: Mapping[str, Any], call: Call) -> bool:
    _only(rule, "from", "to", "when")
    return (
        (not rule.get("from") or any(_from(each["source"], call) for each in rule["from"]))
        and (not rule.get("to") or any(_to(each["operation"], call) for each in rule["to"]))
        and all(_when(each, call) for each in rule.get("when", ()))
    )


def _from(source: Mapping[str, Any], call: Call) -> bool:
    _only(source, "principals", "requestPrincipals")
    if "requestPrincipals" in source:
        # Whose token was good has one; a certificate does not count.
        return any(_like(each, call.issuer) for each in source["requestPrincipals"])
    return any(_like(each, call.principal) for each in source["principals"])


def _to(operation: Mapping[str, Any], call: Call) -> bool:
    _only(operation, "paths", "ports")
    paths, ports = operation.get("paths"), operation.get("ports")
    return (not paths or any(_like(each, call.path) for each in paths)) and (
        not ports or str(call.port) in ports
    )


def _when(condition: Mapping[str, Any], call: Call) -> bool:
    _only(condition, "key", "values", "notValues")
    key = condition["key"]
    if key == _ISSUER:
        value = call.issuer
    elif key.startswith(_HEADER):
        value = call.headers.get(key[len(_HEADER) : -1], "")
    else:
        raise ValueError(f"the condition {key} is not known here")
    values, others = condition.get("values"), condition.get("notValues", ())
    return (not values or any(_like(each, value) for each in values)) and not any(
        _like(each, value) for each in others
    )


def _like(pattern: str, value: str) -> bool:
    if pattern == "*":
        return bool(value)
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value == pattern


def _only(mapping: Mapping[str, Any], *known: str) -> None:
    if unknown := mapping.keys() - set(known):
        raise ValueError(f"{', '.join(sorted(unknown))} is not known here")
