"""Puts a Triton model repository together: configuration, code and weights.

It stands on its own but for links: `cp -rL` makes one for a container.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from models.imported_code import imported_code
from models.minilm.architecture import (
    GRAPH_FILE,
    PACKAGED_MODEL,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
)

TEXT_EMBEDDER: Final = "text_embedder"
CODE_EMBEDDER: Final = "code_embedder"
TEXT_GENERATION: Final = "text_generation"

_HERE: Final = Path(__file__).parent
_SOURCES: Final = _HERE / "repository"
# Where each configuration says on what it runs.
_INSTANCE_GROUP: Final = re.compile(r"^instance_group .*$", re.MULTILINE)
# The device of the first NVIDIA GPU that the kernel has.
_GPU: Final = Path("/dev/nvidia0")


class Device(StrEnum):
    """On what models run."""

    # On a GPU where the machine has one.
    AUTO = "auto"
    CPU = "cpu"
    GPU = "gpu"


class BadModelFolder(Exception):
    """A folder that was named for a model lacks something; the text says what."""


@dataclass(frozen=True, slots=True)
class RepositoryOptions:
    """Which models there are, and on what they run."""

    # What `export_onnx` writes.
    text_embedder: Path = PACKAGED_MODEL
    # model.onnx and tokenizer.json of a model for code; None leaves its slot empty.
    code_embedder: Path | None = None
    device: Device = Device.AUTO
    # Copies of a model by its name, 1 where it is not here; on a GPU, of each GPU.
    instances: Mapping[str, int] = field(default_factory=dict[str, int])

    @property
    def models(self) -> Sequence[str]:
        """The models that the repository has."""
        code = [CODE_EMBEDDER] if self.code_embedder else []
        return (TEXT_EMBEDDER, *code, TEXT_GENERATION)


def has_gpu(device: Path = _GPU) -> bool:
    """Whether this machine has a GPU that Triton could use."""
    return device.exists()


def assemble(
    repository: Path, options: RepositoryOptions = RepositoryOptions(), *, gpu: bool | None = None
) -> None:
    """Fills `repository`, an empty folder.

    Args:
        repository: The folder.
        options: What comes into it.
        gpu: Whether the machine has a GPU; None to look.

    Raises:
        BadModelFolder: Where the code embedder's folder lacks a file.
    """
    present = has_gpu() if gpu is None else gpu
    on_gpu = options.device is Device.GPU or (options.device is Device.AUTO and present)
    for model in options.models:
        folder = repository / model
        (folder / "1").mkdir(parents=True)
        # Rules run on a processor, wherever the mesh does.
        kind = "KIND_GPU" if on_gpu and model != TEXT_GENERATION else "KIND_CPU"
        (folder / "config.pbtxt").write_text(
            _configuration(model, kind, options.instances.get(model, 1)), "utf-8"
        )
        program = _SOURCES / model / "1" / "model.py"
        _link(folder / "1" / "model.py", program)
        for path, file in imported_code(program).items():
            _link(folder / "1" / path, file)
    weights = (GRAPH_FILE, WEIGHTS_FILE, TOKENIZER_FILE)
    _link_all(repository / TEXT_EMBEDDER / "1" / "minilm", options.text_embedder, weights)
    if options.code_embedder:
        _link_code_embedder(repository / CODE_EMBEDDER, options.code_embedder)


def _configuration(model: str, kind: str, count: int) -> str:
    """The model's configuration, with the copies that were asked for."""
    source = (_SOURCES / model / "config.pbtxt").read_text("utf-8")
    group = f"instance_group [ {{ count: {count}, kind: {kind} }} ]"
    written, replaced = _INSTANCE_GROUP.subn(group, source)
    assert replaced == 1, f"{model}: one instance_group on a line of its own is expected"
    return written


def _link_code_embedder(model: Path, folder: Path) -> None:
    for name in (GRAPH_FILE, TOKENIZER_FILE):
        if not (folder / name).is_file():
            raise BadModelFolder(
                f"code_embedder: {folder} has no {name}. Name a folder with both {GRAPH_FILE} and"
                f" {TOKENIZER_FILE}, or leave the setting out"
            )
    # Weights may lie beside the graph, under any name.
    names = sorted(each.name for each in folder.iterdir() if each.is_file())
    _link_all(model / "1" / "model", folder, names)


def _link_all(into: Path, folder: Path, names: Sequence[str]) -> None:
    for name in names:
        _link(into / name, folder / name)


def _link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    # Resolved, since ONNX Runtime looks for the weights beside the real graph.
    link.symlink_to(target.resolve(strict=True))
