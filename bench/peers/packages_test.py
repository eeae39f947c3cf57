"""How peers are installed: from locks with hashes, once, and with a clear word where not."""

import hashlib
import json
import os
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.peers.packages import Packages, cache_folder, locked_version, own_environment, why
from bench.peers.peer import PeerUnavailable

_HERE = Path(__file__).parent
_PIP_LOCKS = [
    _HERE / name / "requirements.lock.txt" for name in ("restate", "dbos", "langgraph", "celery")
]
_NPM_LOCKS = [_HERE / name / "package-lock.json" for name in ("restate", "postgres")]


class _Registry:
    """A folder with one wheel, which is all that pip may ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        wheel = folder / "answer-1.0-py3-none-any.whl"
        info = "answer-1.0.dist-info"
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("answer.py", "VALUE = 42\n")
            archive.writestr(
                f"{info}/METADATA", "Metadata-Version: 2.1\nName: answer\nVersion: 1.0\n"
            )
            archive.writestr(
                f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            archive.writestr(f"{info}/RECORD", "")
        self.digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        # Empty, so that nothing the machine's own configuration names is asked.
        self.environment = {
            **os.environ,
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(folder),
        }

    def lock(self, digest: str) -> Path:
        """A lock that asks for the wheel by a hash."""
        path = self.folder / "requirements.lock.txt"
        path.write_text(f"answer==1.0 \\\n    --hash=sha256:{digest}\n", "utf-8")
        return path


@pytest.fixture(name="registry")
def _registry(tmp_path: Path) -> _Registry:
    folder = tmp_path / "registry"
    folder.mkdir()
    return _Registry(folder)


def _folders(cache: Path) -> Sequence[str]:
    return sorted(each.name for each in cache.iterdir())


def test_a_lock_is_installed_once(registry: _Registry, tmp_path: Path) -> None:
    """The second time its environment is there, and nobody is asked for anything."""
    said: list[str] = []
    cache = tmp_path / "cache"
    lock = registry.lock(registry.digest)
    python = Packages(cache, registry.environment, said.append).python("answer", lock)
    shown = subprocess.run(
        [python, "-c", "import answer; print(answer.VALUE)"],
        capture_output=True,
        text=True,
        env=own_environment(os.environ),
    )
    assert shown.stdout == "42\n"
    assert said == [f"Installing answer in {python.parents[1]}"]

    nobody = {**registry.environment, "PIP_FIND_LINKS": ""}
    assert Packages(cache, nobody, said.append).python("answer", lock) == python
    assert len(said) == 1
    assert _folders(cache) == [python.parents[1].name]


def test_other_bytes_than_those_locked_are_refused(registry: _Registry, tmp_path: Path) -> None:
    """Whoever serves the packages cannot change them; nothing of the try is left."""
    cache = tmp_path / "cache"
    packages = Packages(cache, registry.environment, lambda text: None)
    with pytest.raises(PeerUnavailable, match=r"^Failed to install answer: .*HASHES") as caught:
        packages.python("answer", registry.lock("0" * 64))
    assert "no registry reached" not in str(caught.value)
    assert _folders(cache) == []


def test_without_npm_that_is_said(tmp_path: Path) -> None:
    """Not that some file is missing."""
    packages = Packages(tmp_path / "cache", {"PATH": str(tmp_path)}, lambda text: None)
    with pytest.raises(PeerUnavailable) as caught:
        packages.npm("restate-server", _NPM_LOCKS[0])
    assert str(caught.value) == "npm is not on PATH: install Node.js, which brings it."
    assert _folders(tmp_path / "cache") == []


def test_another_lock_is_another_folder(tmp_path: Path) -> None:
    """A version that was changed never runs in the environment of the one before."""
    lock = tmp_path / "package-lock.json"
    (tmp_path / "package.json").write_text("{}", "utf-8")
    asked: list[str] = []
    packages = Packages(tmp_path / "cache", {"PATH": str(tmp_path)}, asked.append)
    for version in ("1", "2", "1"):
        lock.write_text(version, "utf-8")
        with pytest.raises(PeerUnavailable):
            packages.npm("server", lock)
    assert asked[0] == asked[2] != asked[1]


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("WARNING: slow\nERROR: it is broken\nmore\n", "ERROR: it is broken"),
        ("only this\n", "only this"),
        ("", "it said nothing"),
    ],
)
def test_a_clients_error_is_told_in_a_line(output: str, said: str) -> None:
    """The first line that it calls an error, or else its first line."""
    assert why(output) == said


def test_npm_that_reaches_nobody_is_recognised() -> None:
    """By the code of its network error."""
    output = "npm error code ENOTFOUND\nnpm error syscall getaddrinfo\n"
    assert why(output) == (
        "no registry reached that has it (npm error code ENOTFOUND). Let pip and npm reach one, "
        "or leave it out with --skip."
    )


@pytest.mark.parametrize("lock", _PIP_LOCKS, ids=lambda lock: lock.parent.name)
def test_pip_locks_name_hashes_and_no_address(lock: Path) -> None:
    """Each package has at least one hash; where it comes from is the machine's own affair."""
    text = lock.read_text("utf-8")
    assert "://" not in text
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if not line.startswith(" "):
            assert "==" in line
            assert following.startswith("    --hash=sha256:"), line


@pytest.mark.parametrize("lock", _NPM_LOCKS, ids=lambda lock: lock.parent.name)
def test_npm_locks_name_hashes_and_no_address(lock: Path) -> None:
    """Each package has its hash, and no place."""
    text = lock.read_text("utf-8")
    assert "://" not in text
    for name, package in json.loads(text)["packages"].items():
        assert name == "" or package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package


def test_a_version_is_read_from_its_lock() -> None:
    """Of pip's and of npm's."""
    celery = locked_version(_HERE / "celery" / "requirements.lock.txt", "celery")
    assert celery.split(".")[0] == "5"
    server = locked_version(_NPM_LOCKS[0], "@restatedev/restate-server")
    assert server.split(".")[0] == "1"
    with pytest.raises(KeyError):
        locked_version(_HERE / "celery" / "requirements.lock.txt", "cel")


def test_another_python_imports_nothing_of_ours() -> None:
    """What tells this interpreter where to look is left out of its environment."""
    environ = {"PATH": "/bin", "PYTHONPATH": "/ours", "PYTHONHOME": "/ours"}
    assert own_environment(environ, NEW="1") == {"PATH": "/bin", "NEW": "1"}


def test_the_cache_lies_where_the_user_keeps_caches(tmp_path: Path) -> None:
    """XDG_CACHE_HOME, or else ~/.cache."""
    named = cache_folder({"XDG_CACHE_HOME": str(tmp_path)})
    assert named == tmp_path / "agentmesh" / "peers"
    assert cache_folder({}) == Path.home() / ".cache" / "agentmesh" / "peers"
