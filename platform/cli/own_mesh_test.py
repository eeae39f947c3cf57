"""Commands that go by the data directory, where a gateway is named as well."""

import errno
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.app import app
from tier.options import Tier
from tier.state import MeshState, start_ticks, write_state

_BY_DIRECTORY = (["down"], ["status"], ["logs"], ["scale", "tool=2"], ["backup", "save", "{}/b"])


def _run(folder: Path, *arguments: str) -> Result:
    line = [*arguments, "--data-dir", str(folder)]
    return CliRunner().invoke(app, line, prog_name="agentmesh")


@pytest.fixture
def mesh(tmp_path: Path) -> Path:
    """The data directory of a mesh that runs; its process is this one."""
    folder = tmp_path / "data"
    for each in ("run", "logs"):
        (folder / each).mkdir(parents=True)
    (folder / "logs/mesh.log").write_text("hello\n")
    state = MeshState(
        pid=os.getpid(),
        process_start_ticks=start_ticks(os.getpid()) or 0,
        tier=Tier.PROTOTYPE,
        version="1.2.3",
        started=datetime.now(UTC),
        data_dir=folder,
        address="127.0.0.1:8080",
        admin_address=None,
        config=None,
        processes=(),
        notes=(),
        services=(),
    )
    write_state(state)
    return folder


@pytest.mark.parametrize("command", _BY_DIRECTORY)
@pytest.mark.parametrize("place", [("--port", "9080"), ("--gateway", "127.0.0.1:9080")])
def test_another_mesh_than_the_one_named_is_left_alone(
    mesh: Path, command: list[str], place: tuple[str, str]
) -> None:
    """Who names the gateway of a second mesh does not mean that of the default directory."""
    words = [each.format(mesh) for each in command]
    result = _run(mesh, *words, *place)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: 127.0.0.1:9080 is not the mesh of data directory {mesh}."
        " This command goes by the directory: name it with --data-dir.\n"
    )


@pytest.mark.parametrize("command", _BY_DIRECTORY)
def test_a_gateway_elsewhere_is_not_taken_for_no_mesh(tmp_path: Path, command: list[str]) -> None:
    """That none runs here says nothing about the one that was named."""
    words = [each.format(tmp_path) for each in command]
    result = _run(tmp_path / "none", *words, "--gateway", "mesh.example.com:8080")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: mesh.example.com:8080 is not the mesh of data dir")


@pytest.mark.parametrize("place", [(), ("--port", "8080"), ("--gateway", "127.0.0.1:8080")])
def test_the_mesh_of_the_directory_may_be_named_by_its_gateway(
    mesh: Path, place: tuple[str, ...]
) -> None:
    """As the command lines do that other commands print."""
    result = _run(mesh, "logs", *place)
    assert (result.exit_code, result.stdout) == (0, "hello\n")


@pytest.mark.parametrize("command", [*_BY_DIRECTORY, ["task", "list"], ["audit"]])
def test_the_mesh_of_another_user_is_not_taken_for_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """Who may not look does not know whether one runs."""
    look = Path.stat

    def stat(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.name == "state.json":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return look(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", stat)
    result = _run(tmp_path, *(each.format(tmp_path) for each in command))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        f"error: The data directory {tmp_path} is another user's: Permission denied. Run the"
        " command as that user, or name the mesh with --gateway HOST:PORT and a key for it with"
        " --key FILE.\n"
    )
