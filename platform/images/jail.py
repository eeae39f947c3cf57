"""Starts a program in an image's root file system, with no container engine.

    jail MODE ROOT SCRATCH NAME=VALUE... PROGRAM...

The program gets the environment that is named, and no other. With MODE `namespace` it sees the
image's files and the interpreter of this machine, is the image's user, and can write to nothing but
what pods give it: /tmp and its own folder. It takes a user namespace, as PostgreSQL's launcher
does. With MODE `folder`, for machines that allow none, it runs where it is, as who it is;
`possible` tells which.
"""

import ctypes
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from images.layer import USER

# From <linux/sched.h> and <sys/mount.h>.
_NEW_USERS: Final = 0x10000000
_NEW_MOUNTS: Final = 0x00020000
_READ_ONLY: Final = 1
_REMOUNT: Final = 32
_BIND: Final = 4096
_WITH_ALL_BELOW: Final = 16384
_PRIVATE: Final = 1 << 18
_RELATIVE_TIMES: Final = 1 << 21
# What a mount of somebody else has must stay: no devices, no programs and so on.
_KEPT: Final = 2 | 4 | 8 | 1024 | 2048
_RELATIVE_TIMES_TOLD: Final = 4096
_WRITABLE: Final = ("tmp", "var/lib/agentmesh")
_OF_THE_MACHINE: Final = ("usr", "lib", "lib64", "lib32", "bin")
_DEVICES: Final = ("dev/null", "dev/urandom")

_libc: Final = ctypes.CDLL(None, use_errno=True)


def start(
    mode: str,
    root: Path,
    scratch: Path,
    program: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: IO[str] | int,
) -> subprocess.Popen[str]:
    """Starts a program; the process is its own, so that signals reach it.

    Args:
        mode: See above.
        root: What is in the image.
        scratch: An empty folder.
        program: What is run, by its path, and what it is told.
        environment: The whole of it.
        log: Where what it prints is written.
    """
    variables = [f"{name}={value}" for name, value in environment.items()]
    return subprocess.Popen(
        [
            *(sys.executable, "-P", "-S", "-m", "images.jail"),
            *(mode, str(root), str(scratch), *variables, *program),
        ],
        env={"PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        text=True,
    )


def possible(scratch: Path) -> bool:
    """Whether this machine lets us make namespaces; `scratch` is an empty folder."""
    root = scratch / "root"
    scratch = scratch / "scratch"
    for each in (scratch, *(root / each for each in _WRITABLE)):
        each.mkdir(parents=True)
    program = [os.path.realpath(sys.executable), "-I", "-S", "-c", ""]
    tried = start("namespace", root, scratch, program, environment={}, log=subprocess.DEVNULL)
    return tried.wait(60) == 0


def _enter(root: Path, scratch: Path) -> None:
    """Changes this process's root, user and mounts. OSError where that is not allowed."""
    user, group = os.getuid(), os.getgid()
    _check(_libc.unshare(_NEW_USERS | _NEW_MOUNTS), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{USER} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{USER} {group} 1")
    _mount("none", Path("/"), _PRIVATE | _WITH_ALL_BELOW)
    _mount("tmpfs", scratch, 0, "tmpfs")
    for each in root.iterdir():
        _show(each, scratch / each.name)
    interpreter = Path(sys.base_prefix)
    for place in (*(Path("/") / each for each in _OF_THE_MACHINE), interpreter):
        seen = scratch / place.relative_to("/")
        if place.is_symlink():
            seen.symlink_to(place.readlink())
        elif place.exists() and not seen.exists():
            _show(place, seen)
    # As in every container, whose rights there are its user's, too.
    for each in ("proc", *_DEVICES):
        _show(Path("/") / each, scratch / each, read_only=False)
    for each in _WRITABLE:
        folder = scratch / each
        folder.mkdir(exist_ok=True)
        _mount("tmpfs", folder, 0, "tmpfs")
    _mount("none", scratch, _BIND | _REMOUNT | _READ_ONLY | _flags(scratch))
    os.chroot(scratch)
    os.chdir("/")


def _show(source: Path, place: Path, *, read_only: bool = True) -> None:
    if source.is_dir():
        place.mkdir(parents=True, exist_ok=True)
    else:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.touch()
    _mount(str(source), place, _BIND | _WITH_ALL_BELOW)
    if read_only:
        _mount("none", place, _BIND | _REMOUNT | _READ_ONLY | _flags(place))


def _flags(place: Path) -> int:
    """Those of the mount at `place` that only its owner may change."""
    told = os.statvfs(place).f_flag
    return told & _KEPT | (_RELATIVE_TIMES if told & _RELATIVE_TIMES_TOLD else 0)


def _mount(source: str, place: Path, flags: int, kind: str | None = None) -> None:
    name = kind.encode() if kind else None
    _check(_libc.mount(source.encode(), bytes(place), name, flags, None), f"mount {place}")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def main(mode: str, root: str, scratch: str, *given: str) -> None:
    """Becomes the program."""
    if mode == "namespace":
        _enter(Path(root), Path(scratch))
    first = next(number for number, each in enumerate(given) if "=" not in each)
    environment = dict(each.split("=", 1) for each in given[:first])
    os.execve(given[first], given[first:], environment)


if __name__ == "__main__":
    main(*sys.argv[1:])
