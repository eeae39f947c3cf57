"""The policy as Envoy understands it: configurations of its HTTP filter `rbac`.

Pure functions. Whoever writes Envoy's files puts what they return as the `typed_config` of the
filter `envoy.filters.http.rbac`, after the transcoder: they look at the paths of RPCs, not at
those of JSON.
"""

from collections.abc import Sequence
from typing import Any, Final

from meshkit.constants import CALLER_KEY, ROLE_KEY, SERVICE_CALLER
from meshkit.identity import Role
from tier.policy import Edge, Policy, roles_from

TYPE: Final = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
# The gateway writes an API key's scopes here, with a space between any two, and nothing where
# the caller is limited by its role alone. It ends at the gateway.
SCOPES_KEY: Final = "x-agentmesh-scopes"
# What `gateway_needs` writes among the dynamic metadata of `envoy.filters.http.rbac`: what a call
# takes that its caller does not have, such as `role operator` or `scope tasks:read`.
TAKES_KEY: Final = "shadow_effective_policy_id"
# The gateway answers what is no RPC by itself.
_NO_RPCS: Final = "no rpc"
_RPC_PREFIXES: Final = ("/agentmesh.", "/grpc.", "/envoy")


def gateway_rbac(policy: Policy) -> dict[str, Any]:
    """Lets through whom role and scopes allow the call."""
    rules: dict[str, Any] = {
        _NO_RPCS: {
            "permissions": [
                {"not_rule": {"or_rules": {"rules": [_starts(each) for each in _RPC_PREFIXES]}}}
            ],
            "principals": [{"any": True}],
        }
    }
    for role, of_role in policy.roles.items():
        for scope, of_scope in policy.scopes.items():
            both = [path for path in of_role if path in of_scope]
            if both:
                rules[f"{role.value} {scope}"] = {
                    "permissions": _paths(both),
                    "principals": [{"and_ids": {"ids": [_has_role(role), _has_scope(scope)]}}],
                }
    return {"@type": TYPE, "rules": {"action": "ALLOW", "policies": rules}}


def gateway_needs(policy: Policy) -> dict[str, Any]:
    """Refuses nothing, and notes as TAKES_KEY what a call takes that its caller does not have.

    It stands before `gateway_rbac`, whose refusal can then say so: a filter's own notes come
    too late for its own answer. Where both role and scope are missing, it is the role.
    """
    needs: dict[str, Any] = {
        f"role {role.value}": {
            "permissions": _paths(paths),
            "principals": [{"not_id": _has_role(role)}],
        }
        for role, paths in policy.roles.items()
        if paths
    }
    for scope, paths in policy.scopes.items():
        needs[f"scope {scope}"] = {
            "permissions": _paths(paths),
            "principals": [{"not_id": _has_scope(scope)}],
        }
    # Envoy looks through them in the order of their names.
    return {"@type": TYPE, "shadow_rules": {"action": "DENY", "policies": needs}}


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


def _has_role(lowest: Role) -> Any:
    ids = [_header(ROLE_KEY, {"exact": each.value}) for each in roles_from(lowest)]
    return {"or_ids": {"ids": ids}}


def _has_scope(scope: str) -> Any:
    unlimited = {"header": {"name": SCOPES_KEY, "present_match": True, "invert_match": True}}
    listed = _header(SCOPES_KEY, {"safe_regex": {"regex": f"(.* )?{scope}( .*)?"}})
    return {"or_ids": {"ids": [unlimited, listed]}}


def _header(name: str, match: dict[str, Any]) -> Any:
    return {"header": {"name": name, "string_match": match}}


def _paths(paths: Sequence[str]) -> list[Any]:
    return [{"url_path": {"path": {"exact": path}}} for path in paths]


def _starts(prefix: str) -> Any:
    return {"url_path": {"path": {"prefix": prefix}}}
