"""What a layer is to hold, as the build says it: a path in the image and a file or folder here."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

# Where packages from outside lie in an image; the services' own code lies beside that folder.
APP: Final = PurePosixPath("app")
PACKAGES: Final = APP / "packages"
# In Triton's image a model's folder, where code of ours and packages lie together.
EMBEDDER: Final = APP / "repository/text_embedder/1"
_INFO: Final = ".dist-info"


@dataclass(frozen=True, slots=True)
class Entry:
    """A file, or a folder with all that is in it."""

    # Without a leading slash.
    path: PurePosixPath
    source: Path


def read(file: Path) -> list[Entry]:
    """The entries of a manifest: a line each, path and source with a tab between them."""
    lines = (line.split("\t") for line in file.read_text("utf-8").splitlines())
    return [Entry(PurePosixPath(path), Path(source)) for path, source in lines]


def metadata_files(entries: list[Entry]) -> Iterator[Path]:
    """The file `METADATA` of each distribution among the entries."""
    for each in entries:
        if each.path.name.endswith(_INFO) and each.path.parent == PACKAGES:
            yield each.source / "METADATA"
