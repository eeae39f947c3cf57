"""Run pytest as Bazel wants its tests run: the main of every mesh_py_test.

runner.py TEST-FILE...
"""

import gc
import gzip
import importlib
import json
import os
import sys
from collections.abc import MutableMapping
from pathlib import Path

import pytest


class Shard:
    """Keeps one part of the test cases, when Bazel splits a test in several."""

    def __init__(self, index: int, count: int) -> None:
        self.index = index
        self.count = count

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Keep every count-th case, so that slow neighbours are spread."""
        items[:] = items[self.index :: self.count]


class LateCollection:
    """Has garbage collected once all is imported, of which nothing is garbage.

    It takes a sixth of the time that importing takes.
    """

    def __init__(self) -> None:
        gc.disable()

    def pytest_collection_finish(self) -> None:
        """Begin, and never look at what was imported."""
        gc.freeze()
        gc.enable()


class Characters:
    """Tells hypothesis, where it is used, what UTF-8 can encode: all but surrogates.

    It would try out each character, for seconds of CPU, and keep what it found in a file
    that the next test does not have.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def pytest_collection_finish(self) -> None:
        """Write that file. Any earlier, and hypothesis warns that it is used too soon."""
        if "hypothesis" not in sys.modules:
            return
        from hypothesis.configuration import set_hypothesis_home_dir
        from hypothesis.internal.charmap import charmap_file

        set_hypothesis_home_dir(self.folder)
        known = charmap_file("codec-v2-utf-8")
        known.parent.mkdir(parents=True, exist_ok=True)
        encodable = [[0, 0xD7FF], [0xE000, sys.maxunicode]]
        with gzip.open(known, "wt", encoding="utf-8") as file:
            json.dump([encodable, []], file)


def plugins(environment: dict[str, str]) -> list[object]:
    """Return what this run adds to pytest, and tell Bazel that shards work."""
    characters = Characters(Path(environment["TEST_TMPDIR"]) / "hypothesis")
    always: list[object] = [LateCollection(), characters]
    status_file = environment.get("TEST_SHARD_STATUS_FILE")
    if not status_file:
        return always
    Path(status_file).touch()
    shard = Shard(int(environment["TEST_SHARD_INDEX"]), int(environment["TEST_TOTAL_SHARDS"]))
    return [*always, shard]


def options(environment: dict[str, str]) -> list[str]:
    """Return pytest's options: results and temporary files go where Bazel says."""
    chosen = environment.get("TESTBRIDGE_TEST_ONLY")
    return [
        "--import-mode=importlib",
        "--rootdir=.",
        "--strict-markers",
        "-pno:cacheprovider",
        "-oasyncio_mode=auto",
        "-oasyncio_default_fixture_loop_scope=function",
        f"--junitxml={environment['XML_OUTPUT_FILE']}",
        f"--basetemp={environment['TEST_TMPDIR']}/pytest",
        *([f"-k{chosen}"] if chosen else []),
    ]


def place_servers(environment: MutableMapping[str, str]) -> None:
    """Make the paths of servers absolute, and forget those that cannot run here.

    Bazel names them relative to the folder that a test starts in, and a test may
    start its server in another one. A server that this machine cannot have is a
    text that says why; tests that need it are skipped.
    """
    for variable in environment.get("MESH_SERVERS", "").split():
        server = Path(environment[variable]).absolute()
        if os.access(server, os.X_OK):
            environment[variable] = str(server)
        else:
            print(f"{variable}: {server.read_text()}", file=sys.stderr)
            del environment[variable]


def choose_plugins(environment: MutableMapping[str, str], files: list[str]) -> list[str]:
    """Have pytest load what the files use, and no more: it would take a second for each test.

    Left to itself it also reads all of each plugin's package anew, to rewrite its assertions.
    """
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    if not any("import hypothesis" in text or "from hypothesis" in text for text in _texts(files)):
        return ["-ppytest_asyncio.plugin"]
    be_patient()
    return ["-ppytest_asyncio.plugin", "-p_hypothesis_pytestplugin"]


def be_patient() -> None:
    """Have hypothesis judge what code does, not how busy the machine is."""
    from hypothesis import HealthCheck, settings

    settings.register_profile(
        "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("patient")


def keep_platform() -> None:
    """Keep Python's own module where pytest would have our folder of that name.

    pytest makes a package of each folder above a test, and lets be what has a path.
    """
    vars(importlib.import_module("platform")).setdefault("__path__", [])


def _texts(files: list[str]) -> list[str]:
    return [Path(file).read_text("utf-8") for file in files]


def main(files: list[str]) -> int:
    """Run the files and return the exit status."""
    keep_platform()
    place_servers(os.environ)
    chosen = choose_plugins(os.environ, files)
    environment = dict(os.environ)
    status = pytest.main([*options(environment), *chosen, *files], plugins=plugins(environment))

    # A filter or a shard may leave nothing to do; a whole test must not.
    partial = "TESTBRIDGE_TEST_ONLY" in environment or "TEST_TOTAL_SHARDS" in environment
    if status == pytest.ExitCode.NO_TESTS_COLLECTED and partial:
        return 0
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
