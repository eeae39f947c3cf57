"""What Envoy's filter `rbac` decides, for tests: as much of it as tier/policy_rbac.py writes."""

import re
from collections.abc import Mapping
from typing import Any

from deploy.istio_decision import Call


def allows(rbac: Mapping[str, Any], call: Call) -> bool:
    """Whether the call goes through. `call.principal` is a SPIFFE id here."""
    if "matcher" in rbac:
        verdict = _verdict(rbac["matcher"], call)
        return verdict is not None and verdict["action"] == "ALLOW"
    return any(
        any(_permits(each, call) for each in policy["permissions"])
        and any(_is(each, call) for each in policy["principals"])
        for policy in rbac["rules"]["policies"].values()
    )


def _verdict(matcher: Mapping[str, Any] | None, call: Call) -> Any:
    """Of a tree of matchers: what it says, or None."""
    if matcher is None:
        return None
    if "action" in matcher:
        return matcher["action"]["typed_config"]
    if "matcher" in matcher:
        return _verdict(matcher["matcher"], call)
    found = None
    if tree := matcher.get("matcher_tree"):
        found = tree["exact_match_map"]["map"].get(_value(tree["input"], call))
    for each in matcher.get("matcher_list", {}).get("matchers", ()):
        if found is None and _holds(each["predicate"], call):
            found = each["on_match"]
    return _verdict(matcher.get("on_no_match") if found is None else found, call)


def _holds(predicate: Mapping[str, Any], call: Call) -> bool:
    ((kind, value),) = predicate.items()
    match kind:
        case "not_matcher":
            return not _holds(value, call)
        case "and_matcher":
            return all(_holds(each, call) for each in value["predicate"])
        case "or_matcher":
            return any(_holds(each, call) for each in value["predicate"])
        case "single_predicate":
            found = _value(value["input"], call)
            return found is not None and _text(value["value_match"], found)
        case _:
            raise ValueError(f"the predicate {kind} is not known here")


def _value(of: Mapping[str, Any], call: Call) -> str | None:
    header = of["typed_config"]["header_name"]
    return call.path if header == ":path" else call.headers.get(header)


def _permits(rule: Mapping[str, Any], call: Call) -> bool:
    ((kind, value),) = rule.items()
    if kind == "not_rule":
        return not _permits(value, call)
    if kind == "or_rules":
        return any(_permits(each, call) for each in value["rules"])
    if kind == "url_path":
        return _text(value["path"], call.path)
    raise ValueError(f"the permission {kind} is not known here")


def _is(principal: Mapping[str, Any], call: Call) -> bool:
    ((kind, value),) = principal.items()
    match kind:
        case "any":
            return bool(value)
        case "and_ids":
            return all(_is(each, call) for each in value["ids"])
        case "or_ids":
            return any(_is(each, call) for each in value["ids"])
        case "authenticated":
            return _text(value["principal_name"], call.principal)
        case "header":
            return _header(value, call)
        case _:
            raise ValueError(f"the principal {kind} is not known here")


def _header(match: Mapping[str, Any], call: Call) -> bool:
    value = call.headers.get(match["name"])
    if "present_match" in match:
        return (value is not None) is not match.get("invert_match", False)
    return value is not None and _text(match["string_match"], value)


def _text(match: Mapping[str, Any], value: str) -> bool:
    ((kind, wanted),) = match.items()
    if kind == "exact":
        return value == wanted
    if kind == "prefix":
        return value.startswith(wanted)
    if kind == "safe_regex":
        return re.fullmatch(wanted["regex"], value) is not None
    raise ValueError(f"the match {kind} is not known here")
