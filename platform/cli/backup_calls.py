"""What `agentmesh backup` and `agentmesh restore` do, and what they print."""

from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from backup import api
from cli import async_run
from cli.invocation import Invocation
from cli.own_mesh import own_mesh
from cli.problem import Problem
from cli.terminal import Terminal
from cli.wording import plural, zoned_moment
from meshkit.clock import SystemClock

_MEGABYTE: Final = 1 << 20


def save(invocation: Invocation, place: Path) -> None:
    """Saves, and says what."""
    own_mesh(invocation)
    terminal = invocation.terminal
    with _problems(), _shown(terminal, "Saving") as progress:
        saved = async_run.run(
            api.save(invocation.data_dir, place, clock=SystemClock(), progress=progress)
        )
    if terminal.as_json:
        terminal.document(api.as_json(saved))
        return
    _show(terminal, saved.path, saved.size_bytes, saved.manifest)
    terminal.say()
    terminal.say("It holds secrets: keep it where only you can read it.", style="yellow")
    terminal.say(f"Saved in {saved.path}, and read again.", style="green")


def verify(invocation: Invocation, file: Path) -> None:
    """Reads a backup, and says what is in it."""
    terminal = invocation.terminal
    with _problems(), _shown(terminal, "Verifying") as progress:
        manifest = api.verify(file, progress)
    if terminal.as_json:
        terminal.document(
            {"path": str(file), "size_bytes": file.stat().st_size, **manifest.to_json()}
        )
        return
    _show(terminal, file, file.stat().st_size, manifest)
    terminal.say()
    terminal.say("It is whole, and as it was written.", style="green")


def restore(invocation: Invocation, file: Path) -> None:
    """Restores, and says what."""
    terminal = invocation.terminal
    with _problems(), _shown(terminal, "Restoring") as progress:
        restored = async_run.run(api.restore(file, invocation.data_dir, progress=progress))
    if terminal.as_json:
        terminal.document(restored.to_json())
        return
    _show(terminal, file, file.stat().st_size, restored.manifest)
    if restored.lost_documents:
        terminal.warn(
            f"{plural(len(restored.lost_documents), 'document')} changed while they were saved"
            f" and have to be added again: {', '.join(restored.lost_documents)}"
        )
    terminal.say()
    terminal.say(
        f"Restored to {restored.data_dir}. Start it with `{invocation.command('up')}`: tasks that"
        " were open when it was saved go on from there.",
        style="green",
    )


def _show(terminal: Terminal, path: Path, size_bytes: int, manifest: api.Manifest) -> None:
    streams = ", ".join(f"{each.messages:,} {each.name}" for each in manifest.streams)
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    took = (manifest.ended - manifest.began).total_seconds()
    terminal.fields(
        [
            ("File", f"{path} ({_size(size_bytes)})"),
            ("Saved", f"{zoned_moment(manifest.began)}, in {took:.1f} s"),
            ("Of", f"Agentmesh {manifest.made_by} ({manifest.tier or 'stopped'}), {versions}"),
            ("Messages", streams or "none"),
            ("Databases", ", ".join(manifest.databases) or "none"),
        ]
    )
    for note in manifest.notes:
        terminal.say(f"Note: {note}", style="yellow")


def _size(size_bytes: int) -> str:
    return f"{size_bytes / _MEGABYTE:,.1f} MiB"


@contextmanager
def _problems() -> Generator[None]:
    try:
        yield
    except api.BackupError as error:
        raise Problem(str(error)) from error


@contextmanager
def _shown(terminal: Terminal, what: str) -> Generator[api.Progress]:
    """A bar where a person waits; elsewhere a line for each part."""
    if not terminal.fancy_progress:
        told: list[str] = []

        def tell(step: api.Step) -> None:
            if step.part not in told:
                told.append(step.part)
                terminal.progress(f"{what}: {step.part} ({step.done + 1} of {step.total})")

        yield tell
        return

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        *(TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=terminal.err_console, transient=True) as bar:
        job = bar.add_task("", total=None)
        yield lambda step: bar.update(
            job,
            completed=step.done,
            total=step.total,
            description=f"{step.part}, {_size(step.size_bytes)}",
        )
