"""Where PostgreSQL is looked for."""

import json
from pathlib import Path

import pytest

from bench.peers.packages import Packages
from bench.peers.peer import PeerUnavailable
from bench.peers.postgres.server import find, link_libraries


def _program(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n", "utf-8")
    path.chmod(0o755)
    return path


def _packages(tmp_path: Path) -> Packages:
    return Packages(tmp_path / "cache", {"PATH": str(tmp_path / "nothing")}, lambda text: None)


def test_the_folder_that_is_named_wins(tmp_path: Path) -> None:
    """Over that on PATH."""
    _program(tmp_path / "named", "initdb")
    _program(tmp_path / "path", "initdb")
    environ = {"AGENTMESH_POSTGRES_BIN": str(tmp_path / "named"), "PATH": str(tmp_path / "path")}
    assert find(environ, _packages(tmp_path)).bin == tmp_path / "named"


def test_a_folder_that_holds_none_is_no_reason_to_take_another(tmp_path: Path) -> None:
    """Who names one means it."""
    environ = {"AGENTMESH_POSTGRES_BIN": str(tmp_path), "PATH": ""}
    with pytest.raises(PeerUnavailable) as caught:
        find(environ, _packages(tmp_path))
    assert str(caught.value) == f"AGENTMESH_POSTGRES_BIN is {tmp_path}, which holds no initdb."


def test_links_on_path_are_followed(tmp_path: Path) -> None:
    """The server lies beside initdb itself."""
    program = _program(tmp_path / "lib/bin", "initdb")
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "initdb").symlink_to(program)
    found = find({"PATH": str(tmp_path / "path")}, _packages(tmp_path))
    assert (found.bin, found.cached) == (tmp_path / "lib/bin", False)


def test_without_any_the_package_is_asked_for(tmp_path: Path) -> None:
    """Which needs npm."""
    with pytest.raises(PeerUnavailable, match=r"^npm is not on PATH"):
        find({"PATH": str(tmp_path / "nothing")}, _packages(tmp_path))


def test_the_packages_links_are_made(tmp_path: Path) -> None:
    """Relative to where they lie; making them again changes nothing."""
    native = tmp_path / "native"
    _program(native / "lib", "libpq.so.5.18")
    links = [{"source": "native/lib/libpq.so.5.18", "target": "native/lib/libpq.so.5"}]
    (native / "pg-symlinks.json").write_text(json.dumps(links), "utf-8")
    link_libraries(native)
    link_libraries(native)
    assert (native / "lib/libpq.so.5").readlink() == Path("libpq.so.5.18")
