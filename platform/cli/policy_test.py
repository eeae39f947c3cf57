"""The policy on the command line: shown, and checked."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.app import app
from tier import binaries, policy

_SHIPPED = binaries.repository_root() / policy.SHIPPED


def _run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["policy", *arguments], prog_name="agentmesh")


def test_an_rpc_is_shown_with_role_scope_and_services() -> None:
    """A line says the lowest role, the scope of keys, and which services call it."""
    result = _run("show")
    assert result.exit_code == 0
    head, *lines = [line.split() for line in result.stdout.splitlines()]
    assert head == ["RPC", "ROLE", "SCOPE", "SERVICES"]
    memory = "agentmesh.memory.v1.MemoryService"
    assert [f"{memory}/Search", "user", "docs:read", "tool"] in lines
    assert [f"{memory}/Forget", "user", "docs:write"] in lines


@pytest.mark.parametrize(
    ("role", "has_budgets", "has_charges"),
    [("user", False, False), ("operator", True, False), ("admin", True, True)],
)
def test_what_a_role_may_call(role: str, has_budgets: bool, has_charges: bool) -> None:
    """A role may call its own RPCs and those of lower roles."""
    rpcs = [
        each["rpc"] for each in json.loads(_run("show", "--role", role, "--json").stdout)["rpcs"]
    ]
    assert "agentmesh.coordinator.v1.CoordinatorService/GetTask" in rpcs
    assert ("agentmesh.governor.v1.CostGovernorService/SetBudget" in rpcs) is has_budgets
    assert ("agentmesh.governor.v1.CostGovernorService/Settle" in rpcs) is has_charges


def test_what_a_scope_lets_through() -> None:
    """A scope lists its RPCs, and one that there is not is told."""
    shown = json.loads(_run("show", "--scope", "tools:read", "--json").stdout)
    assert shown == {
        "rpcs": [
            {
                "rpc": "agentmesh.tool.v1.ToolService/GetTool",
                "role": "user",
                "scope": "tools:read",
                "services": [],
            },
            {
                "rpc": "agentmesh.tool.v1.ToolService/ListTools",
                "role": "user",
                "scope": "tools:read",
                "services": ["executor"],
            },
        ]
    }
    result = _run("show", "--scope", "tools:all")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: There is no scope 'tools:all'. There are tasks:read,")


def test_the_shipped_policy_is_right() -> None:
    """A good file is told so, with what is in it."""
    result = _run("check", str(_SHIPPED))
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{_SHIPPED} is right: ")


def test_a_mistake_is_told_by_its_line(tmp_path: Path) -> None:
    """A bad file ends the command with 1, and the line of the mistake."""
    file = tmp_path / "policy.yaml"
    file.write_text(_SHIPPED.read_text("utf-8").replace("[Search]", "[Serch]", 1), "utf-8")
    line = next(
        number
        for number, text in enumerate(file.read_text("utf-8").splitlines(), 1)
        if "Serch" in text
    )
    result = _run("check", str(file))
    assert result.exit_code == 1
    memory = "agentmesh.memory.v1.MemoryService"
    assert result.stderr == (
        f"error: {file}:{line}: calls.tool.memory.{memory}: {memory} has no RPC 'Serch'.\n"
    )
