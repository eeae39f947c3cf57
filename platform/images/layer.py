"""One layer of an image, as a tar that is the same wherever it is made.

    layer MANIFEST TAR [FOLDER]

Everything belongs to root and nobody may write to it, but for FOLDER, which is the service's.
What a running service does not need is left out: tests, types, sources of extensions.
"""

import io
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from images.bytecode import compiled, compiled_path
from images.manifest import APP, EMBEDDER, PACKAGES, Entry, read

# Who runs the services.
USER: Final = 65532
# The first moment that every archive can tell.
_TIME: Final = 315_532_800
_FILE_MODE: Final = 0o644
_FOLDER_MODE: Final = 0o755
_OWN_FOLDER_MODE: Final = 0o700

_NOT_NEEDED_FOLDERS: Final = frozenset({"__pycache__", "test", "tests"})
_NOT_NEEDED_SUFFIXES: Final = frozenset(
    (".a", ".c", ".cc", ".cmake", ".cpp", ".cu", ".h", ".hpp", ".pxd", ".pxi", ".pyi", ".pyx")
)
# What pip notes about the machine on which it installs.
_NOTES_OF_PIP: Final = frozenset({"INSTALLER", "RECORD", "REQUESTED", "direct_url.json"})
# Parts of packages with which others are built.
_BUILD_TOOLS: Final = frozenset(
    folder / each
    for folder in (PACKAGES, EMBEDDER)
    for each in ("numpy/distutils", "numpy/f2py", "pyarrow/include", "pyarrow/src")
)


def write(entries: list[Entry], target: Path, own_folder: str | None = None) -> None:
    """Writes the layer.

    Args:
        entries: What is in it, in any order.
        target: The tar.
        own_folder: One that is the service's to write to; None where there is none.
    """
    contents = {path: source for each in entries for path, source in _files(each)}
    # One at least: a builder takes a tar with nothing in it for a file like any other.
    folders = {APP, *(folder for path in contents for folder in path.parents if folder.name)}
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted({*folders, *contents}):
            if path in folders:
                _add_folder(tar, path)
                continue
            source = contents[path]
            _add(tar, path, source.read_bytes())
        for path, source in sorted(contents.items()):
            if path.suffix == ".py":
                place = path.parent / compiled_path(path.stem)
                if place.parent not in folders:
                    _add_folder(tar, place.parent)
                    folders.add(place.parent)
                _add(tar, place, compiled(source, f"/{path}"))
        if own_folder:
            path = PurePosixPath(own_folder)
            for folder in reversed([each for each in path.parents if each.name]):
                _add_folder(tar, folder)
            _add_folder(tar, path, mode=_OWN_FOLDER_MODE, user=USER)


def needed(path: PurePosixPath) -> bool:
    """Whether a running service may need what lies there in its image."""
    parents = path.parents
    return not (
        _NOT_NEEDED_FOLDERS.intersection(path.parts[:-1])
        or path.suffix in _NOT_NEEDED_SUFFIXES
        or (path.parent.name.endswith(".dist-info") and path.name in _NOTES_OF_PIP)
        or _BUILD_TOOLS.intersection(parents)
    )


def _files(entry: Entry) -> Iterator[tuple[PurePosixPath, Path]]:
    if not entry.path.is_relative_to(APP):
        raise ValueError(f"{entry.path} lies outside of {APP}")
    if not entry.source.is_dir():
        found = [(entry.path, entry.source)]
    else:
        found = [
            (entry.path / each.relative_to(entry.source).as_posix(), each)
            for each in entry.source.rglob("*")
            if each.is_file()
        ]
    yield from ((path, source) for path, source in found if needed(path))


def _add(tar: tarfile.TarFile, path: PurePosixPath, content: bytes) -> None:
    info = _info(path, _FILE_MODE)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def _add_folder(
    tar: tarfile.TarFile, path: PurePosixPath, *, mode: int = _FOLDER_MODE, user: int = 0
) -> None:
    info = _info(path, mode)
    info.type = tarfile.DIRTYPE
    info.uid = info.gid = user
    tar.addfile(info)


def _info(path: PurePosixPath, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(str(path))
    info.mode = mode
    info.mtime = _TIME
    return info


def main(manifest: str, target: str, own_folder: str | None = None) -> None:
    """Writes the layer of a manifest."""
    write(read(Path(manifest)), Path(target), own_folder)


if __name__ == "__main__":
    main(*sys.argv[1:])
