"""Write the BUILD file of a repository of installed Python packages.

Prints one py_library per distribution found in the folder given. Its data are
whole folders wherever one distribution has a folder to itself: a test then
links some hundred folders into its sandbox instead of thousands of files.
"""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import PurePosixPath

HEADER = """\
load("@rules_python//python:defs.bzl", "py_library")

package(default_visibility = ["//visibility:public"])

exports_files(glob(["{root}/bin/*"]) + ["{root}", "wheels.json"])
"""

TARGET = """
py_library(
    name = "{name}",
    data = [{data}],
    imports = ["{root}"],
    deps = [{deps}],
)
"""

REQUIREMENT = re.compile(r"(?P<name>[A-Za-z0-9._-]+)\s*(?:\[(?P<extras>[^]]*)\])?")
OUR_EXTRA = re.compile(r"""extra\s*==\s*['"](?P<extra>[^'"]+)""")

# The machine's own scripts, made at install time, belong to no library.
OUTSIDE = ("..", "bin")


def normalize(name: str) -> str:
    """Return the one spelling of a distribution's name, as in the lock file."""
    return re.sub(r"[-_.]+", "-", name).lower()


def files(distribution: Distribution) -> list[PurePosixPath]:
    """Return the distribution's installed files, relative to the folder.

    Among them what pip has compiled: a test would else compile a module that lies beside the
    packages, and each test anew.
    """
    return [
        PurePosixPath(file) for file in distribution.files or [] if file.parts[0] not in OUTSIDE
    ]


def requirements(distribution: Distribution) -> Iterator[tuple[str, set[str], str]]:
    """Yield (name, its extras asked for, our extra that asks) of each requirement."""
    for requirement in distribution.requires or []:
        parsed = REQUIREMENT.match(requirement)
        if parsed:
            condition = OUR_EXTRA.search(requirement)
            extras = {extra.strip() for extra in (parsed["extras"] or "").split(",")} - {""}
            yield normalize(parsed["name"]), extras, condition["extra"] if condition else ""


def dependencies(installed: dict[str, Distribution]) -> dict[str, set[str]]:
    """Return what each distribution needs, with the extras that another asks for.

    Extras that nobody asks for are left out: packages name each other in them,
    and Bazel allows no circle.
    """
    asked_for = {
        (name, extra)
        for distribution in installed.values()
        for name, extras, our_extra in requirements(distribution)
        for extra in extras
        if not our_extra
    }
    return {
        name: {
            other
            for other, _, our_extra in requirements(distribution)
            if other in installed and (not our_extra or (name, our_extra) in asked_for)
        }
        for name, distribution in installed.items()
    }


def owners(installed: dict[str, Distribution]) -> dict[PurePosixPath, set[str]]:
    """Return, for every file and folder, the distributions with a file there."""
    result: dict[PurePosixPath, set[str]] = {}
    for name, distribution in installed.items():
        for file in files(distribution):
            for path in (file, *file.parents):
                result.setdefault(path, set()).add(name)
    return result


def largest_own_paths(
    distribution: Distribution, owned: dict[PurePosixPath, set[str]]
) -> list[str]:
    """Return the fewest paths that cover the distribution and nothing else."""
    covering: set[str] = set()
    for file in files(distribution):
        ancestry = [*reversed(file.parents), file]
        covering.add(str(next(path for path in ancestry if len(owned[path]) == 1)))
    return sorted(covering)


def quoted(items: list[str]) -> str:
    """Return the items as the inside of a Starlark list."""
    return ", ".join(f'"{item}"' for item in items)


def main(root: str) -> None:
    """Print the BUILD file for the packages installed under root."""
    installed = {
        normalize(distribution.metadata["Name"]): distribution
        for distribution in distributions(path=[root])
    }
    owned = owners(installed)
    needed = dependencies(installed)

    print(HEADER.format(root=root), end="")
    for name, distribution in sorted(installed.items()):
        data = [f"{root}/{path}" for path in largest_own_paths(distribution, owned)]
        deps = sorted(f":{other}" for other in needed[name])
        print(
            TARGET.format(name=name, root=root, data=quoted(data), deps=quoted(deps)),
            end="",
        )


if __name__ == "__main__":
    main(sys.argv[1])
