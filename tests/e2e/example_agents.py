"""An agent of each pattern, as the documentation has it."""

import json
from pathlib import Path
from typing import Any, Final

from cli.command_mesh import Commands
from tests.e2e.running_mesh import Client

# Workers before those who hand parts to them.
AGENTS: Final = ("clerk", "analyst", "planner", "editor", "lead")
# That an agent of each pattern can answer.
QUESTION: Final = "What is 12 * 12, and what is 45 + 6?"
_FOLDER: Final = Path(__file__).parents[2] / "docs" / "examples" / "agents"


async def make_agents(client: Client) -> None:
    """Creates them, in the tenant `default`."""
    commands = Commands(client.mesh.address)
    for name in AGENTS:
        file = str(_FOLDER / f"{name}.yaml")
        result = await commands.run("agent", "create", "--file", file, "--json")
        assert result.exit_code == 0, result.stderr
        created: dict[str, Any] = json.loads(result.stdout)["agent"]
        assert created["name"] == f"tenants/default/agents/{name}"
