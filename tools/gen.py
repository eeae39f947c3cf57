"""Put what the build makes and fetches where editors and checkers look for it.

    ./bazelw run //tools:gen [-- FOLDER]

Writes to FOLDER, .gen in the repository if none is given:

    stubs      the contracts' generated modules and their types
    packages   a link to the installed Python packages
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


def link(packages: str, target: Path) -> None:
    """Point to installed packages where Bazel keeps them."""
    target.unlink(missing_ok=True)
    target.symlink_to(os.path.realpath(packages))


def main(packages: str, devtools: str, folder: str = DEFAULT_FOLDER) -> None:
    """Fill the folder; Bazel starts us among our data, not where the user is."""
    target = Path(os.environ["BUILD_WORKSPACE_DIRECTORY"]) / folder
    target.mkdir(parents=True, exist_ok=True)
    write_stubs(Path("proto"), target / "stubs")
    link(packages, target / "packages")
    link(devtools, target / "devtools")
    print(f"wrote {target}")


if __name__ == "__main__":
    main(*sys.argv[1:])
