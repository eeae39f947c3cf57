"""What is kept of pip's report is the same on every machine."""

from typing import Any

import pytest

from third_party.python import wheels


def installed(name: str, digest: str) -> Any:
    """What pip reports of one wheel."""
    url = f"https://files.example.test/packages/ab/{name}-1.0%2Bcpu-py3-none-any.whl"
    return {
        "download_info": {"url": url, "archive_info": {"hash": digest}},
        "metadata": {"name": name, "version": "1.0+cpu"},
    }


def test_a_wheel_is_known_by_file_and_hash() -> None:
    """By the name as locks have it, in order, and not by where it came from."""
    report = {"install": [installed("Two_2", "sha256=22"), installed("one", "sha256=11")]}
    found = wheels.wheels(report)
    assert list(found.items()) == [
        ("one", {"version": "1.0+cpu", "file": "one-1.0+cpu-py3-none-any.whl", "sha256": "11"}),
        ("two-2", {"version": "1.0+cpu", "file": "Two_2-1.0+cpu-py3-none-any.whl", "sha256": "22"}),
    ]


def test_other_hashes_are_refused() -> None:
    """What is not known by its SHA-256 cannot be compared with the lock."""
    with pytest.raises(ValueError, match=r"^one is known by its md5, not its sha256$"):
        wheels.wheels({"install": [installed("one", "md5=11")]})
