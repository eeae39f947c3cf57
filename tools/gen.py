"""Put what the build makes and fetches where editors and checkers look for it.

    ./bazelw run //tools:gen [-- FOLDER]

Writes to FOLDER, .gen in the repository if none is given:

    stubs      the contracts' generated modules and their types
    packages   a link to the installed Python packages
    googleapis the common types that the contracts import, for buf
    devtools   a link to the checkers (bin/ruff) and to types of packages
"""

import os
import shutil
import sys
from pathlib import Path

DEFAULT_FOLDER = ".gen"


def write_stubs(generated: Path, target: Path) -> None:
    """Copy the generated modules, and drop those of contracts that are gone."""
    shutil.rmtree(target, ignore_errors=True)
    for source in generated.rglob("*_pb2*.py*"):
        copy = target / source.relative_to(generated)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, copy)


def copy_common_types(packages: Path, target: Path) -> None:
    """Copy what googleapis-common-protos holds: buf follows no link out of its workspace."""
    shutil.rmtree(target, ignore_errors=True)
    for folder in ("google/api", "google/rpc"):
        for source in (packages / folder).glob("*.proto"):
            copy = target / folder / source.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def link(packages: str, target: Path) -> None:
    """Point to installed packages where Bazel keeps them."""
    target.unlink(missing_ok=True)
    target.symlink_to(os.path.realpath(packages))


def main(packages: str, devtools: str, folder: str = DEFAULT_FOLDER) -> None:
    """Fill the folder; Bazel starts us among our data, not where the user is."""
    target = Path(os.environ["BUILD_WORKSPACE_DIRECTORY"]) / folder
    target.mkdir(parents=True, exist_ok=True)
    write_stubs(Path("proto"), target / "stubs")
    copy_common_types(Path(packages), target / "googleapis")
    link(packages, target / "packages")
    link(devtools, target / "devtools")
    print(f"wrote {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
