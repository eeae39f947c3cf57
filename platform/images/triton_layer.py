"""The layer of Triton's image, with its bill of materials and its provenance.

    triton_layer WHEELS LOCK STATUS LAYER BILL STATEMENT

It holds a model repository with the embedder: configuration, code, weights, and the packages that
it imports. These lie in the model's own folder, which Triton puts at the end of that model's path:
vLLM, beside it in the same image, does not see them. Text generation is not in it, for its weights
are chosen where the image runs.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from images import bill, layer, provenance, wheels
from images.manifest import APP, EMBEDDER, Entry
from models.triton_repository import TEXT_EMBEDDER, Device, RepositoryOptions, assemble
from tier.version import VERSION

NAME: Final = "triton"
# What the embedder imports from outside.
_IMPORTED: Final = ("numpy", "onnxruntime", "tokenizers")
_INDENT: Final = 2


def main(installed: str, lock: str, status: str, target: str, bill_file: str, told: str) -> None:
    """Writes all three."""
    found = _distributions()
    used = wheels.read(Path(installed))
    metadata = [Path(str(each.locate_file(_metadata(each)))) for each in found]
    Path(bill_file).write_text(bill.write(f"agentmesh/{NAME}", VERSION, used, metadata), "utf-8")
    with tempfile.TemporaryDirectory() as folder:
        # Its package runs on processors: GPUs are for vLLM.
        assemble(Path(folder), RepositoryOptions(device=Device.CPU), gpu=False)
        entries = [
            Entry(EMBEDDER.parent, Path(folder) / TEXT_EMBEDDER),
            Entry(APP / "bill.cdx.json", Path(bill_file)),
            *(entry for each in found for entry in _files(each)),
        ]
        layer.write(entries, Path(target))
    statement = provenance.statement(
        NAME,
        [Path(target), Path(bill_file)],
        commit=provenance.commit_of(Path(status).read_text("utf-8")),
        lock=Path(lock),
        used=provenance.used_by(json.loads(Path(bill_file).read_text("utf-8")), used),
    )
    Path(told).write_text(json.dumps(statement, indent=_INDENT) + "\n", "utf-8")


def _distributions() -> list[Distribution]:
    """What the embedder needs, and all that this needs, by name."""
    found = dict[str, Distribution]()
    waiting = list(_IMPORTED)
    while waiting:
        name = wheels.normalize(waiting.pop())
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            if name in _IMPORTED:
                raise
            # The lock leaves it out, and says why.
            continue
        needed = map(Requirement, found[name].requires or ())
        waiting += [
            each.name for each in needed if not each.marker or each.marker.evaluate({"extra": ""})
        ]
    return [found[name] for name in sorted(found)]


def _metadata(found: Distribution) -> str:
    (file,) = [str(each) for each in found.files or () if str(each).endswith(".dist-info/METADATA")]
    return file


def _files(found: Distribution) -> Iterator[Entry]:
    """What was installed, but for programs and what Python makes by itself."""
    for each in found.files or ():
        if ".." not in each.parts and "__pycache__" not in each.parts:
            yield Entry(EMBEDDER / each, Path(str(found.locate_file(each))))


if __name__ == "__main__":
    main(*sys.argv[1:])
