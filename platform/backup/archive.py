"""The file: a ZIP archive whose last member, the manifest, has the digest of every other one.

Until it is whole and was read again it has another name, so that what a crash leaves is never
taken for a backup. A ZIP archive has its table of contents at its end: one that was cut off
later has none.
"""

import hashlib
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final

from backup.failures import Damaged, FileExists, NewerBackup, NotABackup
from backup.manifest import FORMAT, Manifest, Member, stays_inside

MANIFEST: Final = "manifest.json"
# What a name ends with as long as the file is not whole.
PART: Final = ".part"
_CHUNK_BYTES: Final = 1 << 20
# A manifest is held in memory: this is one of some 300,000 members.
_MOST_MANIFEST_BYTES: Final = 64 << 20
# The fastest; what is large and compresses well is rare, and time counts while a mesh works.
_LEVEL: Final = 1
# What the library says of an archive that is none, or that was changed.
_UNREADABLE: Final = (
    *(zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, ValueError),
    *(NotImplementedError, RuntimeError, OverflowError, OSError),
)


class MemberWriter:
    """Takes what goes into one member."""

    def __init__(self, into: IO[bytes], told: Callable[[int], None]) -> None:
        self._into: Final = into
        self._told: Final = told
        self._digest: Final = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> None:
        """Appends to the member."""
        self._into.write(data)
        self._digest.update(data)
        self.size_bytes += len(data)
        self._told(len(data))

    @property
    def sha256(self) -> str:
        """Of everything so far."""
        return self._digest.hexdigest()


class ArchiveWriter:
    """A backup that is being written. Either `finish` or `abandon` ends it."""

    def __init__(self, path: Path, told: Callable[[int], None] = lambda count: None) -> None:
        """`told`: of how many bytes have gone in.

        Raises:
            FileExists: There is such a file.
            OSError: It cannot be made.
        """
        if path.exists():
            raise FileExists(path)
        self.path: Final = path
        self._told: Final = told
        self._part: Final = path.with_name(path.name + PART)
        # It holds keys and what tenants said: its owner's alone from the first byte on.
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._part, flags, 0o600)
        os.fchmod(descriptor, 0o600)
        self._file: Final = os.fdopen(descriptor, "wb+")
        self._zip: Final = zipfile.ZipFile(self._file, "w", allowZip64=True)
        self._members: list[Member] = []

    @property
    def members(self) -> Sequence[Member]:
        """What is in it so far."""
        return list(self._members)

    @contextmanager
    def member(self, name: str, *, compress: bool = True) -> Generator[MemberWriter]:
        """Writes one member; one at a time."""
        info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
        info.compress_type = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
        info._compresslevel = _LEVEL  # type: ignore[attr-defined]  # pyright: ignore
        info.external_attr = 0o600 << 16
        with self._zip.open(info, "w", force_zip64=True) as into:
            writer = MemberWriter(into, self._told)
            yield writer
        self._members.append(Member(name, writer.size_bytes, writer.sha256))

    def add(self, name: str, path: Path) -> None:
        """Writes the content of a file."""
        with path.open("rb") as source, self.member(name) as member:
            while chunk := source.read(_CHUNK_BYTES):
                member.write(chunk)

    def finish(self, manifest: Manifest, told: Callable[[int], None] = lambda count: None) -> None:
        """Writes the manifest, reads everything again, and gives the file its name.

        Raises:
            Damaged: What was read is not what was written.
            OSError: There is no room, or the disk fails.
        """
        text = json.dumps(manifest.to_json(), indent=1).encode()
        with self._zip.open(MANIFEST, "w") as into:
            into.write(text)
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        with Archive(self._part) as archive:
            archive.verify(told)
        if self.path.exists():
            raise FileExists(self.path)
        self._part.rename(self.path)
        self._file.close()
        _flush_folder(self.path.parent)

    def abandon(self) -> None:
        """Leaves nothing behind."""
        self._part.unlink(missing_ok=True)
        # It would end the archive in order.
        self._zip.fp = None
        self._file.close()


class Archive:
    """A backup that is read. A context manager."""

    def __init__(self, path: Path) -> None:
        """Reads what it says of itself.

        Raises:
            NotABackup: It is another file, or was cut off.
            NewerBackup: A later version made it.
            Damaged: It says nothing that can be read.
            OSError: It is not there.
        """
        self.path: Final = path
        self._file: Final = path.open("rb")
        try:
            self._zip: Final = self._open()
            self.manifest: Final = self._read_manifest()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Who reads in another thread meets Damaged."""
        self._zip.close()
        self._file.close()

    @property
    def names(self) -> Sequence[str]:
        """Its members, in the order in which they were saved."""
        return [each.name for each in self.manifest.members]

    def verify(self, told: Callable[[int], None] = lambda count: None) -> None:
        """Reads everything and compares it with the digests; `told` of how many bytes were read.

        Raises:
            Damaged: Something differs, is missing, or is there besides.
        """
        there = [each for each in self._zip.namelist() if each != MANIFEST]
        if sorted(there) != sorted(self.names):
            raise Damaged(self.path, "what is in it is not what it lists")
        for member in self.manifest.members:
            digest, size = hashlib.sha256(), 0
            for chunk in self.read(member.name):
                digest.update(chunk)
                size += len(chunk)
                told(len(chunk))
            if (size, digest.hexdigest()) != (member.size_bytes, member.sha256):
                raise Damaged(self.path, f"{member.name} has another digest")

    def read(self, name: str) -> Iterator[bytes]:
        """The content of a member, in chunks. Raises Damaged."""
        try:
            with self._zip.open(name) as source:
                while chunk := source.read(_CHUNK_BYTES):
                    yield chunk
        except _UNREADABLE as error:
            raise Damaged(self.path, f"{name}: {error}") from None

    def extract(self, name: str, to: Path) -> None:
        """Writes a member to a file that only its owner can read. Raises Damaged and OSError."""
        to.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as into:
            for chunk in self.read(name):
                into.write(chunk)

    def _open(self) -> zipfile.ZipFile:
        try:
            return zipfile.ZipFile(self._file)
        except _UNREADABLE:
            raise NotABackup(self.path) from None

    def _read_manifest(self) -> Manifest:
        if MANIFEST not in self._zip.namelist():
            raise NotABackup(self.path)
        if self._zip.getinfo(MANIFEST).file_size > _MOST_MANIFEST_BYTES:
            raise Damaged(self.path, "its manifest is too large")
        try:
            values: dict[str, Any] = json.loads(b"".join(self.read(MANIFEST)))
            if int(values["format"]) > FORMAT:
                raise NewerBackup(self.path, str(values["made_by"]), f"format {values['format']}")
            manifest = Manifest.from_json(values)
            is_inside = all(map(stays_inside, _places(manifest)))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise Damaged(self.path, "its manifest cannot be read") from None
        if not is_inside:
            raise Damaged(self.path, "it names places outside of a data directory")
        return manifest


def _places(manifest: Manifest) -> Iterator[str]:
    yield from (each.name for each in manifest.members)
    yield from manifest.databases
    yield from manifest.links
    yield from manifest.links.values()


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
