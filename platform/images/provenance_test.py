"""A statement of provenance says what was made, and from what."""

import hashlib
from pathlib import Path

import pytest

from images import provenance
from images.wheels import Wheel

_COMMIT = "1234567890abcdef" * 2 + "12345678"
_WHEEL = Wheel("one", "1.0", "one-1.0-py3-none-any.whl", "1" * 64)


def test_a_statement_names_layers_and_materials(tmp_path: Path) -> None:
    """All by their digests, in the words of in-toto and SLSA."""
    layer, lock = tmp_path / "tool.tar", tmp_path / "lock"
    layer.write_bytes(b"layer")
    lock.write_bytes(b"lock")
    found = provenance.statement("tool", [layer], commit=_COMMIT, lock=lock, used=[_WHEEL])
    assert found["_type"] == "https://in-toto.io/Statement/v1"
    assert found["predicateType"] == "https://slsa.dev/provenance/v1"
    assert found["subject"] == [
        {"name": "tool.tar", "digest": {"sha256": hashlib.sha256(b"layer").hexdigest()}}
    ]
    definition = found["predicate"]["buildDefinition"]
    assert definition["externalParameters"] == {"target": "//mesh/images", "image": "tool"}
    assert definition["resolvedDependencies"] == [
        {"name": "source", "digest": {"gitCommit": _COMMIT}},
        {
            "name": "third_party/python/requirements.lock.txt",
            "digest": {"sha256": hashlib.sha256(b"lock").hexdigest()},
        },
        {
            "uri": "pkg:pypi/one@1.0",
            "name": "one-1.0-py3-none-any.whl",
            "digest": {"sha256": "1" * 64},
        },
    ]


@pytest.mark.parametrize(
    ("status", "commit"),
    [
        (f"BUILD_EMBED_LABEL {_COMMIT}\nBUILD_HOST here\n", _COMMIT),
        ("BUILD_EMBED_LABEL \nBUILD_HOST here\n", None),
        ("BUILD_EMBED_LABEL main\n", None),
        ("BUILD_HOST here\n", None),
    ],
)
def test_the_commit_is_what_the_build_was_told(status: str, commit: str | None) -> None:
    """A commit by its hash; a branch may be another one tomorrow."""
    assert provenance.commit_of(status) == commit
