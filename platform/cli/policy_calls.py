"""The policy of the mesh, shown and checked."""

from pathlib import Path

from cli.problem import Problem
from cli.terminal import Terminal
from cli.wording import plural
from meshkit.identity import Role
from tier import policy, policy_contracts
from tier.policy import Policy


def show(terminal: Terminal, *, role: str | None, scope: str | None) -> None:
    """Prints who may call what, as a table. Problem for a scope that there is not."""
    found = policy_contracts.shipped()
    if scope is not None and scope not in found.scopes:
        raise Problem(f"There is no scope {scope!r}.", f"There are {', '.join(found.scopes)}.")
    rpcs = [
        each
        for each in found.paths()
        if (role is None or Role(role) in policy.roles_from(found.role_of(each)))
        and (scope is None or each in found.scopes[scope])
    ]
    if terminal.as_json:
        terminal.document({"rpcs": [_document(found, each) for each in rpcs]})
        return
    rows = [
        (
            each[1:],
            found.role_of(each).value,
            found.scope_of(each),
            ", ".join(_services(found, each)),
        )
        for each in rpcs
    ]
    terminal.table(("RPC", "ROLE", "SCOPE", "SERVICES"), rows)


def check(terminal: Terminal, file: Path) -> None:
    """Says what the policy in `file` amounts to. BadPolicy where it is wrong."""
    found = policy.read(file, policy_contracts.offered())
    counts = {
        "rpcs": len(found.paths()),
        "scopes": len(found.scopes),
        "edges": len(found.edges),
    }
    if terminal.as_json:
        terminal.document(counts)
        return
    terminal.say(
        f"{file} is right: {plural(counts['rpcs'], 'RPC')}, {plural(counts['scopes'], 'scope')},"
        f" {plural(counts['edges'], 'edge')} between services."
    )


def _document(found: Policy, path: str) -> dict[str, object]:
    return {
        "rpc": path[1:],
        "role": found.role_of(path).value,
        "scope": found.scope_of(path),
        "services": _services(found, path),
    }


def _services(found: Policy, path: str) -> list[str]:
    """Which services may call it of another."""
    return [each.caller for each in found.edges if path in each.paths]
