"""What we ask of every layer of an image."""

import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from images.layer import USER, needed
from images.manifest import APP, EMBEDDER, PACKAGES

_OTHERS_MAY_WRITE: Final = 0o022
_SPECIAL: Final = 0o7000
_MAY_RUN: Final = 0o111
# What builds, installs, or lets somebody look around.
_TOOLS: Final = re.compile(
    r"(pip|setuptools|wheel|uv|pytest|hypothesis|grpc_tools|mypy_protobuf|cyclonedx|ruff|bazel"
    r"|gcc|g\+\+|cc|ld|make|cmake|ninja|sh|bash|busybox|curl|wget)(-[\d.]+\.dist-info)?"
)
_SETTINGS_OF_TOOLS: Final = frozenset(
    {".git", ".netrc", ".npmrc", ".pypirc", ".pip", "pip.conf", "uv.toml", "direct_url.json"}
)
# A whole key: code that reads keys names how they begin.
_SECRET: Final = re.compile(
    rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=]{40}|\bsk-[A-Za-z0-9]{32}"
    rb"|\bamk_[a-z0-9]{8,40}_[A-Za-z0-9_-]{43}|\bAKIA[A-Z0-9]{16}\b"
)
# One of them is in each: to look for these takes a tenth of the time.
_MARKS: Final = (b"PRIVATE KEY-----", b"sk-", b"amk_", b"AKIA")
_REGISTRY: Final = re.compile(
    rb"--(extra-)?index-url|PIP_INDEX|https?://[^\s/@]+@|\b(docker|quay|ghcr|gcr)\.io\b"
    rb"|files\.pythonhosted\.org|/simple/"
)
# Machine code and numbers hold any bytes; what is compiled lies beside its source.
_NO_TEXT: Final = b"\0"
_BEGINNING_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Member:
    """One file, folder or whatever else there is in a layer."""

    path: PurePosixPath
    info: tarfile.TarInfo
    # None where there are no words in it.
    text: bytes | None


def members(layer: Path) -> Iterator[Member]:
    """All that is in a layer."""
    with tarfile.open(layer) as tar:
        for each in tar:
            path = PurePosixPath(each.name)
            content = tar.extractfile(each) if each.isfile() else None
            beginning = content.read(_BEGINNING_BYTES) if content else _NO_TEXT
            if content is None or _NO_TEXT in beginning:
                yield Member(path, each, None)
            else:
                yield Member(path, each, beginning + content.read())


def findings(member: Member) -> Iterator[str]:
    """What is wrong with one of them."""
    path, info = member.path, member.info
    own = str(path) == "var/lib/agentmesh"
    if not (info.isfile() or info.isdir()):
        yield f"{path}: is neither a file nor a folder"
    if info.mode & _SPECIAL:
        yield f"{path}: gives its rights to who runs it"
    if info.mode & _OTHERS_MAY_WRITE:
        yield f"{path}: others may write to it"
    if info.isfile() and info.mode & _MAY_RUN:
        yield f"{path}: can be run"
    if (info.uid, info.gid) != ((USER, USER) if own else (0, 0)):
        yield f"{path}: belongs to {info.uid}:{info.gid}"
    if not path.is_relative_to(APP) and path not in _OUTSIDE:
        yield f"{path}: lies outside of {APP}"
    if info.isfile() and "__pycache__" not in path.parts and not needed(path):
        yield f"{path}: is not needed to run"
    if path.parent in (APP, PACKAGES, EMBEDDER) and _TOOLS.fullmatch(path.name):
        yield f"{path}: is a tool"
    if path.name in _SETTINGS_OF_TOOLS:
        yield f"{path}: holds settings of a tool"
    if member.text is not None:
        marked = any(each in member.text for each in _MARKS)
        if marked and (found := _SECRET.search(member.text)):
            yield f"{path}: {found[0][:12].decode()!r} begins what looks like a secret"
        if _is_ours(path) and (found := _REGISTRY.search(member.text)):
            yield f"{path}: {found[0].decode()!r} says where packages or images come from"


_OURS_BESIDE_PACKAGES: Final = frozenset(("minilm", "model.py", "models"))
_OUTSIDE: Final = frozenset(PurePosixPath(each) for each in ("var", "var/lib", "var/lib/agentmesh"))


def _is_ours(path: PurePosixPath) -> bool:
    """Whether it was written here: what packages say of themselves names where they are."""
    if path.is_relative_to(EMBEDDER):
        return path.relative_to(EMBEDDER).parts[0] in _OURS_BESIDE_PACKAGES
    return path.is_relative_to(APP) and not path.is_relative_to(PACKAGES)
