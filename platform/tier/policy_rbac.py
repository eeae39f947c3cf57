"""The policy as Envoy understands it: configurations of its HTTP filter `rbac`.

Pure functions. Whoever writes Envoy's files puts what they return as the `typed_config` of the
filter `envoy.filters.http.rbac`, after the transcoder: they look at the paths of RPCs, not at
those of JSON.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from meshkit.constants import CALLER_KEY, ROLE_KEY, SCOPES_KEY, SERVICE_CALLER
from meshkit.identity import Role
from tier.policy import Edge, Policy, roles_from

TYPE: Final = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
# What `gateway_needs` writes among the dynamic metadata of `envoy.filters.http.rbac`: what a call
# takes that its caller does not have, such as `role operator` or `scope tasks:read`.
TAKES_KEY: Final = "shadow_effective_policy_id"
_ACTION: Final = "type.googleapis.com/envoy.config.rbac.v3.Action"
_INPUT: Final = "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput"
_RPC_PREFIXES: Final = ("/agentmesh.", "/grpc.", "/envoy")


def gateway_rbac(policy: Policy) -> dict[str, Any]:
    """Lets through whom role and scopes allow the call; one that nobody placed, nobody.

    What is no RPC passes: the gateway answers it by itself.
    """
    allowed = {
        path: _first(
            _when(
                _all(_has_role(policy.role_of(path)), _has_scope(policy.scope_of(path))),
                _verdict(f"{policy.role_of(path).value} {policy.scope_of(path)}", "ALLOW"),
            )
        )
        for path in policy.paths()
    }
    # Without a verdict the filter refuses.
    others = _first(
        _when(_no(_any(*(_starts(each) for each in _RPC_PREFIXES))), _verdict("no rpc", "ALLOW"))
    )
    return {"@type": TYPE, "matcher": _by_path(allowed, others)}


def gateway_needs(policy: Policy) -> dict[str, Any]:
    """Refuses nothing, and notes as TAKES_KEY what a call takes that its caller does not have.

    It stands before `gateway_rbac`, whose refusal can then say so: a filter's own notes come
    too late for its own answer. Where both role and scope are missing, it is the role.
    """
    needs = {
        path: _first(
            _when(_no(_has_role(role)), _verdict(f"role {role.value}", "DENY")),
            _when(_no(_has_scope(scope)), _verdict(f"scope {scope}", "DENY")),
            otherwise=_verdict("nothing", "ALLOW"),
        )
        for path in policy.paths()
        for role, scope in [(policy.role_of(path), policy.scope_of(path))]
    }
    return {"@type": TYPE, "shadow_matcher": _by_path(needs, _verdict("nothing", "ALLOW"))}


def proxy_rbac(policy: Policy, callee: str, *, spiffe: str | None) -> dict[str, Any]:
    """Lets through which services may call `callee`, and what of it.

    `spiffe` is the trust domain in whose names certificates are, such as
    `spiffe://agentmesh.local`; None where the hops are in plain text, and only the header says
    who calls.
    """
    edges = [each for each in policy.edges if each.callee == callee]
    return {
        "@type": TYPE,
        # Without any policy nobody is let through.
        "rules": {
            "action": "ALLOW",
            "policies": {
                each.caller: {
                    "permissions": _paths(each.paths),
                    "principals": [{"and_ids": {"ids": _is_caller(each, spiffe)}}],
                }
                for each in edges
            },
        },
    }


def _is_caller(edge: Edge, spiffe: str | None) -> list[Any]:
    said = _header(CALLER_KEY, {"exact": f"{SERVICE_CALLER}{edge.caller}"})
    if spiffe is None:
        return [said]
    name = {"principal_name": {"exact": f"{spiffe}/{edge.caller}"}}
    return [{"authenticated": name}, said]


def _header(name: str, match: dict[str, Any]) -> Any:
    return {"header": {"name": name, "string_match": match}}


def _paths(paths: Sequence[str]) -> list[Any]:
    return [{"url_path": {"path": {"exact": path}}} for path in paths]


# Of Envoy's matching by trees, which finds a path among many at once.


def _by_path(found: Mapping[str, Any], otherwise: Any) -> Any:
    tree = {"input": _input(":path"), "exact_match_map": {"map": found}}
    return {"matcher_tree": tree, "on_no_match": otherwise}


def _first(*matchers: Any, otherwise: Any = None) -> Any:
    """The verdict of the first that fits."""
    matcher: dict[str, Any] = {"matcher_list": {"matchers": list(matchers)}}
    if otherwise is not None:
        matcher["on_no_match"] = otherwise
    return {"matcher": matcher}


def _when(predicate: Any, verdict: Any) -> Any:
    return {"predicate": predicate, "on_match": verdict}


def _verdict(name: str, action: str) -> Any:
    typed = {"@type": _ACTION, "name": name, "action": action}
    return {"action": {"name": "verdict", "typed_config": typed}}


def _has_role(lowest: Role) -> Any:
    return _is(ROLE_KEY, {"safe_regex": {"google_re2": {}, "regex": "|".join(roles_from(lowest))}})


def _has_scope(scope: str) -> Any:
    unlimited = _no(_is(SCOPES_KEY, {"safe_regex": {"google_re2": {}, "regex": ".*"}}))
    return _any(
        unlimited,
        _is(SCOPES_KEY, {"safe_regex": {"google_re2": {}, "regex": f"(.* )?{scope}( .*)?"}}),
    )


def _starts(prefix: str) -> Any:
    return _is(":path", {"prefix": prefix})


def _is(header: str, match: dict[str, Any]) -> Any:
    """False where there is no such header."""
    return {"single_predicate": {"input": _input(header), "value_match": match}}


def _all(*predicates: Any) -> Any:
    return {"and_matcher": {"predicate": list(predicates)}}


def _any(*predicates: Any) -> Any:
    return {"or_matcher": {"predicate": list(predicates)}}


def _no(predicate: Any) -> Any:
    return {"not_matcher": predicate}


def _input(header: str) -> Any:
    return {"name": "header", "typed_config": {"@type": _INPUT, "header_name": header}}
