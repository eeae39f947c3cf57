"""Installs what a peer needs, once, by the ordinary package clients, from locks with hashes."""

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.peers.peer import PeerUnavailable

_TIMEOUT_SECONDS: Final = 600.0
# How pip and npm say that nobody was there to ask.
_NOBODY_ASKED: Final = (
    "Could not find a version",
    "No matching distribution",
    "ConnectionError",
    "NewConnection",
    "EAI_AGAIN",
    "ECONNREFUSED",
    "ENOTFOUND",
    "ENOTCACHED",
    "ETIMEDOUT",
)


def cache_folder(environ: Mapping[str, str]) -> Path:
    """Where the peers lie once they are installed."""
    cache = environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "agentmesh" / "peers"


def own_environment(environ: Mapping[str, str], **added: str) -> dict[str, str]:
    """The environment of another Python: nothing that tells this one what to import."""
    kept = {name: value for name, value in environ.items() if not name.startswith("PYTHON")}
    return {**kept, **added}


class Packages:
    """The peers' packages in a folder of the cache, each lock in a folder of its own.

    A lock that changes has another hash, and so another folder; a folder is there
    only once it is complete.
    """

    def __init__(
        self, cache: Path, environ: Mapping[str, str], progress: Callable[[str], None]
    ) -> None:
        """`progress` is told of each installation, which takes seconds to minutes."""
        self._cache: Final = cache
        self._environ: Final = environ
        self._progress: Final = progress

    def python(self, name: str, lock: Path) -> Path:
        """The interpreter of an environment that holds the packages of a pip lock.

        Raises:
            PeerUnavailable: They cannot be installed.
        """
        # How an interpreter was built decides how quick it is: all are measured with ours.
        flavour = f"{sys.version} {os.path.realpath(sys.executable)}"

        def install(folder: Path) -> None:
            # Without a pip of its own, whose installation takes longer than most of what it brings.
            environment = [sys.executable, "-m", "venv", "--without-pip", str(folder)]
            self._call(environment, "make an environment")
            python = str(folder / "bin/python")
            pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
            options = ["--disable-pip-version-check", "--retries=2", "--require-hashes"]
            what = ["--no-deps", "--only-binary=:all:", "--requirement", str(lock)]
            self._call([*pip, *options, *what], f"install {name}")

        return self._once(name, [lock], flavour, install) / "bin/python"

    def npm(self, name: str, lock: Path) -> Path:
        """The folder `node_modules` with the packages of a `package-lock.json`.

        What packages would run while they are installed is not run.

        Raises:
            PeerUnavailable: They cannot be installed.
        """
        wanted = lock.with_name("package.json")

        def install(folder: Path) -> None:
            if shutil.which("npm", path=self._environ.get("PATH")) is None:
                raise PeerUnavailable("npm is not on PATH: install Node.js, which brings it.")
            folder.mkdir()
            for each in (wanted, lock):
                shutil.copyfile(each, folder / each.name)
            options = ["--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error"]
            self._call(
                ["npm", "ci", *options, "--fetch-retries=2", "--prefix", str(folder)],
                f"install {name}",
            )

        return self._once(name, [wanted, lock], platform.machine(), install) / "node_modules"

    def _once(
        self, name: str, locks: Sequence[Path], flavour: str, install: Callable[[Path], None]
    ) -> Path:
        digest = hashlib.sha256(flavour.encode())
        for each in locks:
            digest.update(each.read_bytes())
        folder = self._cache / f"{name}-{digest.hexdigest()[:16]}"
        if folder.is_dir():
            return folder
        self._progress(f"Installing {name} in {folder}")
        self._cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{name}-", dir=self._cache) as begun:
            # Whoever installs the same at the same time may be quicker, which is as good.
            install(Path(begun, "made"))
            if not folder.is_dir():
                Path(begun, "made").rename(folder)
        return folder

    def _call(self, command: Sequence[str], what: str) -> None:
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=own_environment(self._environ),
                timeout=_TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise PeerUnavailable(
                f"Failed to {what}: no end within {_TIMEOUT_SECONDS:.0f} s."
            ) from None
        if done.returncode != 0:
            raise PeerUnavailable(f"Failed to {what}: {why(done.stdout)}")


def why(output: str) -> str:
    """What a package client that failed wants to say, in a line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("ERROR:", "npm error", "Error:"))]
    said = (errors or lines or ["it said nothing"])[0]
    if any(sign in output for sign in _NOBODY_ASKED):
        return (
            f"no registry reached that has it ({said}). Let pip and npm reach one, "
            "or leave it out with --skip."
        )
    return said


def locked_version(lock: Path, package: str) -> str:
    """The version of a package in a pip lock or a `package-lock.json`."""
    if lock.suffix == ".json":
        packages = json.loads(lock.read_text("utf-8"))["packages"]
        return str(packages[f"node_modules/{package}"]["version"])
    for line in lock.read_text("utf-8").splitlines():
        name, _, version = line.partition("==")
        if name == package:
            return version.split()[0]
    raise KeyError(f"{lock} holds no {package}.")
