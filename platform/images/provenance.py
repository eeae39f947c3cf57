"""Provenance: from what the layers of an image were made, as an in-toto statement of SLSA v1.

    provenance IMAGE STATUS LOCK WHEELS BILL STATEMENT LAYER...

STATUS is what Bazel knows of the build. The statement is not signed: who publishes images does so.
"""

import hashlib
import json
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from images import wheels
from images.wheels import Wheel

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://slsa.dev/provenance/v1"
# docs/operations.md says what it means.
BUILD_TYPE: Final = "https://agentmesh.dev/build/image-layers/v1"
BUILDER: Final = "https://agentmesh.dev/build/bazel"
LOCK: Final = "third_party/python/requirements.lock.txt"
# Given as --embed_label.
_COMMIT: Final = re.compile(r"^BUILD_EMBED_LABEL ([0-9a-f]{40}|[0-9a-f]{64})$", re.MULTILINE)
_INDENT: Final = 2
_BLOCK_BYTES: Final = 1 << 20


def statement(
    image: str,
    subjects: Sequence[Path],
    *,
    commit: str | None,
    lock: Path,
    used: Iterable[Wheel],
) -> Any:
    """What the layers of an image were made from.

    Args:
        image: Such as `governor`.
        subjects: The layers, and the bill of materials.
        commit: Of the source; None where nobody has said so.
        lock: The file that says which packages may be used.
        used: The packages that are.
    """
    dependencies = [
        {"name": LOCK, "digest": {"sha256": digest(lock)}},
        *(
            {"uri": each.purl, "name": each.file, "digest": {"sha256": each.sha256}}
            for each in sorted(used, key=lambda each: each.name)
        ),
    ]
    if commit:
        dependencies.insert(0, {"name": "source", "digest": {"gitCommit": commit}})
    return {
        "_type": STATEMENT,
        "subject": [{"name": each.name, "digest": {"sha256": digest(each)}} for each in subjects],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"target": "//mesh/images", "image": image},
                # The base image must have the same.
                "internalParameters": {
                    "python": ".".join(platform.python_version_tuple()[:2]),
                    "machine": platform.machine(),
                },
                "resolvedDependencies": dependencies,
            },
            "runDetails": {"builder": {"id": BUILDER}},
        },
    }


def commit_of(status: str) -> str | None:
    """The source's commit, if whoever builds has said it."""
    found = _COMMIT.search(status)
    return found[1] if found else None


def used_by(bill: Mapping[str, Any], installed: Mapping[str, Wheel]) -> list[Wheel]:
    """The packages of which a bill of materials tells."""
    return [installed[each["name"]] for each in bill["components"]]


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    hashed = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(_BLOCK_BYTES):
            hashed.update(block)
    return hashed.hexdigest()


def main(
    image: str, status: str, lock: str, installed: str, bill: str, target: str, *layers: str
) -> None:
    """Writes the statement of one image."""
    used = used_by(json.loads(Path(bill).read_text("utf-8")), wheels.read(Path(installed)))
    made = statement(
        image,
        [*map(Path, layers), Path(bill)],
        commit=commit_of(Path(status).read_text("utf-8")),
        lock=Path(lock),
        used=used,
    )
    Path(target).write_text(json.dumps(made, indent=_INDENT) + "\n", "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
