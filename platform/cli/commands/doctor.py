"""`agentmesh doctor`."""

import asyncio
import os
import sys
from dataclasses import asdict

import click

from cli import model_keys, servers
from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation
from cli.wording import plural
from tier import api as tiers


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh doctor", "check what `up` would need"),
        Example("agentmesh doctor --port 9080 --data-dir /tmp/try", "with another port and folder"),
    ],
)
@pass_invocation
def doctor(invocation: Invocation) -> None:
    """Check this machine for what a mesh needs.

    Each check says what to do where it fails. The exit code is 1 if one does.
    """
    servers.provide(os.environ)
    options = tiers.MeshOptions(
        data_dir=invocation.data_dir,
        port=tiers.MeshOptions().port if invocation.port is None else invocation.port,
    )
    checks = [_python(), *asyncio.run(tiers.doctor(options)), _keys()]
    failures = sum(not each.passed for each in checks)
    terminal = invocation.terminal
    if terminal.as_json:
        terminal.document({"passed": not failures, "checks": [asdict(each) for each in checks]})
    else:
        for each in checks:
            mark, style = ("ok  ", "green") if each.passed else ("FAIL", "bold red")
            terminal.say(f"{mark}  {each.name}: {each.detail}", style=style)
            if each.remedy:
                terminal.say(f"      {each.remedy}")
        terminal.say()
        terminal.say(
            f"{plural(failures, 'check')} failed." if failures else "Everything is in place."
        )
    if failures:
        raise click.exceptions.Exit(1)


def _python() -> tiers.Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return tiers.Check("python", True, f"{version} at {sys.executable}", "")


def _keys() -> tiers.Check:
    key = model_keys.find(os.environ)
    detail = key.sentence() if key else "no key of a provider is set; the offline model answers"
    return tiers.Check("models", True, detail, "")
