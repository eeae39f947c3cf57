"""Rules about the Python packages here that are easily broken unawares."""

import importlib.util
import os
import platform
from pathlib import Path

import pytest
from google.rpc import status_pb2

RUNFILES = Path.cwd()
COMMON_TYPES = Path(status_pb2.__file__).parents[2]
COPIES = sorted((RUNFILES / "third_party/googleapis").rglob("*.proto"))


def test_platform_is_the_standard_librarys() -> None:
    """`import platform` gives the standard library's module, not our folder."""
    assert platform.python_version()


def test_platform_folder_is_no_package() -> None:
    """No __init__.py lies in platform/, whether written by hand or by Bazel."""
    assert not (RUNFILES / "platform/__init__.py").exists()


def test_only_declared_packages_are_importable() -> None:
    """The machine's own packages are out of reach: pip is one that it has."""
    assert importlib.util.find_spec("pip") is None


def test_copies_are_there() -> None:
    """There are copies to compare."""
    assert COPIES


@pytest.mark.parametrize("copy", COPIES, ids=lambda path: path.name)
def test_common_types_equal_the_packages(copy: Path) -> None:
    """buf reads the same common types as the build does."""
    original = COMMON_TYPES / os.path.relpath(copy, RUNFILES / "third_party/googleapis")
    assert copy.read_text() == original.read_text()
