"""A layer is the same wherever it is made, belongs to root, and holds what is needed alone."""

import importlib.util
import os
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest

from images import layer
from images.manifest import Entry, read

_CODE = "def fail():\n    names = {'b', 'a', 'c'}\n    raise ValueError(sorted(names))\n"
_FAIL = "import package.module; package.module.fail()"


def _entries(folder: Path) -> list[Entry]:
    package = folder / "package"
    (package / "tests").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "module.py").write_text(_CODE)
    (package / "module.py").chmod(0o777)
    (package / "module.pyi").write_text("def fail() -> None: ...\n")
    (package / "tests" / "module_test.py").write_text("assert False\n")
    info = folder / "package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: package\n")
    (info / "RECORD").write_text("../../bin/package,,\n")
    return [
        Entry(PurePosixPath("app/packages/package-1.0.dist-info"), info),
        Entry(PurePosixPath("app/packages/package"), package),
    ]


def test_what_is_needed_is_there_and_root_s(tmp_path: Path) -> None:
    """Modules and their compiled forms, and what says which package it is; no tests, no types."""
    tar = tmp_path / "layer.tar"
    layer.write(_entries(tmp_path), tar, "var/lib/agentmesh")
    compiled = importlib.util.cache_from_source("x.py").removeprefix("__pycache__/x")
    with tarfile.open(tar) as found:
        members = [(each.name, each.uid, oct(each.mode), each.mtime) for each in found]
    time = 315_532_800
    assert members == [
        ("app", 0, "0o755", time),
        ("app/packages", 0, "0o755", time),
        ("app/packages/package", 0, "0o755", time),
        ("app/packages/package/__init__.py", 0, "0o644", time),
        ("app/packages/package/module.py", 0, "0o644", time),
        ("app/packages/package-1.0.dist-info", 0, "0o755", time),
        ("app/packages/package-1.0.dist-info/METADATA", 0, "0o644", time),
        ("app/packages/package/__pycache__", 0, "0o755", time),
        (f"app/packages/package/__pycache__/__init__{compiled}", 0, "0o644", time),
        (f"app/packages/package/__pycache__/module{compiled}", 0, "0o644", time),
        ("var", 0, "0o755", time),
        ("var/lib", 0, "0o755", time),
        ("var/lib/agentmesh", 65532, "0o700", time),
    ]


def test_it_is_the_same_every_time(tmp_path: Path) -> None:
    """Whatever the order of names in memory, and whether pip has compiled the modules or not."""
    entries = _entries(tmp_path)
    manifest = tmp_path / "manifest"
    manifest.write_text("".join(f"{each.path}\t{each.source}\n" for each in entries))
    assert read(manifest) == entries
    made: list[bytes] = []
    for number, seed in enumerate(("1", "2", "3")):
        if number == 1:
            # As pip does, under a name that means nothing elsewhere.
            command = [sys.executable, "-m", "compileall", "-q", tmp_path / "package"]
            subprocess.run(command, check=True, timeout=60)
        tar = tmp_path / f"{number}.tar"
        environment = {
            **os.environ,
            "PYTHONHASHSEED": seed,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        command = [sys.executable, "-m", "images.layer", manifest, tar]
        subprocess.run(command, check=True, timeout=60, env=environment)
        made.append(tar.read_bytes())
    assert made[0] == made[1] == made[2]


def test_compiled_modules_are_used_as_they_are(tmp_path: Path) -> None:
    """Without a look at the source; they name no folder of the machine that has made them."""
    tar = tmp_path / "layer.tar"
    layer.write(_entries(tmp_path), tar)
    root = tmp_path / "root"
    with tarfile.open(tar) as found:
        found.extractall(root)
    (root / "app/packages/package/module.py").write_text("not even Python")
    ended = subprocess.run(
        [sys.executable, "-P", "-S", "-c", _FAIL],
        env={"PYTHONPATH": str(root / "app/packages")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert str(tmp_path).encode() not in tar.read_bytes()
    assert ended.stderr.endswith("ValueError: ['a', 'b', 'c']\n")


def test_a_layer_is_never_empty(tmp_path: Path) -> None:
    """A service may need no packages but those that all need, and its layer is still a tar."""
    tar = tmp_path / "layer.tar"
    layer.write([], tar)
    with tarfile.open(tar) as found:
        assert found.getnames() == ["app"]


def test_nothing_lies_outside_of_its_folder(tmp_path: Path) -> None:
    """What the base image brings is not replaced."""
    (tmp_path / "passwd").write_text("")
    entry = Entry(PurePosixPath("etc/passwd"), tmp_path / "passwd")
    with pytest.raises(ValueError, match=r"^etc/passwd lies outside of app$"):
        layer.write([entry], tmp_path / "layer.tar")
