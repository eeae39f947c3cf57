"""Rules about the Python packages here that are easily broken unawares."""

import importlib.util
import platform
from pathlib import Path

RUNFILES = Path.cwd()


def test_platform_is_the_standard_librarys() -> None:
    """`import platform` gives the standard library's module, not our folder."""
    assert platform.python_version()


def test_platform_folder_is_no_package() -> None:
    """No __init__.py lies in platform/, whether written by hand or by Bazel."""
    assert not (RUNFILES / "platform/__init__.py").exists()


def test_only_declared_packages_are_importable() -> None:
    """The machine's own packages are out of reach: pip is one that it has."""
    assert importlib.util.find_spec("pip") is None
