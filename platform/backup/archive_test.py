"""A backup is whole and as it was written, or it is refused."""

import json
import os
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from backup.archive import MANIFEST, Archive, ArchiveWriter
from backup.failures import BackupError, Damaged, FileExists, NewerBackup, NotABackup
from backup.manifest import Consumer, Manifest, Member, Stream

_NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
_CONTENT = {"streams/TASKS": os.urandom(3000), "files/access/local.key": b"amk_secret" * 50}


def _manifest(writer: ArchiveWriter, **changed: object) -> Manifest:
    stream = Stream(
        "TASKS",
        "streams/TASKS",
        {"name": "TASKS"},
        {"messages": 3, "last_seq": 7},
        [Consumer({"durable_name": "control"}, 2)],
    )
    values: dict[str, object] = {
        "made_by": "0.1.0",
        "versions": {"nats": "2.15.2"},
        "tier": "staging",
        "began": _NOW,
        "ended": _NOW,
        "members": writer.members,
        "streams": [stream],
        "databases": [],
        "links": {},
        "notes": ["A note."],
        **changed,
    }
    return Manifest(**values)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def _written(path: Path, **changed: object) -> Path:
    writer = ArchiveWriter(path)
    for name, content in _CONTENT.items():
        with writer.member(name) as member:
            member.write(content)
    writer.finish(_manifest(writer, **changed))
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Members, their digests and the manifest, in a file of its owner's alone."""
    path = _written(tmp_path / "a.backup")
    with Archive(path) as archive:
        archive.verify()
        assert {each: b"".join(archive.read(each)) for each in archive.names} == _CONTENT
        assert archive.manifest == Manifest.from_json(archive.manifest.to_json())
        assert archive.manifest.streams[0].consumers[0].acknowledged == 2
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["a.backup"]


def test_until_it_is_whole_it_has_another_name(tmp_path: Path) -> None:
    """Nobody takes it for a backup, and who gives it up leaves nothing."""
    path = tmp_path / "a.backup"
    writer = ArchiveWriter(path)
    with writer.member("streams/TASKS") as member:
        member.write(b"half")
    assert os.listdir(tmp_path) == ["a.backup.part"]
    assert (tmp_path / "a.backup.part").stat().st_mode & 0o777 == 0o600
    with pytest.raises(NotABackup):
        Archive(tmp_path / "a.backup.part")
    writer.abandon()
    assert os.listdir(tmp_path) == []


def test_no_file_is_replaced(tmp_path: Path) -> None:
    """Also not one that came while the backup was written."""
    path = tmp_path / "a.backup"
    path.write_text("mine")
    with pytest.raises(FileExists) as refused:
        ArchiveWriter(path)
    assert str(refused.value) == f"{path} exists: choose another name, or name a folder."
    path.unlink()
    writer = ArchiveWriter(path)
    path.write_text("mine")
    with pytest.raises(FileExists):
        writer.finish(_manifest(writer))
    writer.abandon()
    assert path.read_text() == "mine"
    assert os.listdir(tmp_path) == ["a.backup"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True))
def test_a_file_that_was_cut_off_is_refused(tmp_path: Path, at: float) -> None:
    """Wherever it ends."""
    whole = tmp_path / "whole.backup"
    content = (whole if whole.exists() else _written(whole)).read_bytes()
    half = tmp_path / "half.backup"
    half.write_bytes(content[: int(at * len(content))])
    with pytest.raises(NotABackup):
        Archive(half)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_bit_that_turned_changes_nothing_unnoticed(tmp_path: Path, at: float, bit: int) -> None:
    """Either it is refused, or what is read from it is what was written."""
    whole = tmp_path / "whole.backup"
    content = bytearray((whole if whole.exists() else _written(whole)).read_bytes())
    content[int(at * len(content))] ^= 1 << bit
    damaged = tmp_path / "damaged.backup"
    damaged.write_bytes(content)
    try:
        with Archive(damaged) as archive:
            archive.verify()
            assert {each: b"".join(archive.read(each)) for each in archive.names} == _CONTENT
            with Archive(whole) as other:
                assert archive.manifest == other.manifest
    except BackupError:
        pass


def test_another_file_is_refused(tmp_path: Path) -> None:
    """Also another ZIP archive."""
    other = tmp_path / "other"
    other.write_text("Good day.")
    with pytest.raises(NotABackup) as refused:
        Archive(other)
    assert str(refused.value) == (
        f"{other} is not a whole backup: it is another file, or one that was cut off. "
        "Take another one."
    )
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("a", "b")
    with pytest.raises(NotABackup):
        Archive(other)


def test_a_later_format_is_refused(tmp_path: Path) -> None:
    """Whatever else its manifest says, with the version that can read it."""
    later = tmp_path / "later.backup"
    with zipfile.ZipFile(later, "w") as archive:
        archive.writestr(MANIFEST, json.dumps({"format": 2, "made_by": "3.0.0", "new": 1}))
    with pytest.raises(NewerBackup) as refused:
        Archive(later)
    assert str(refused.value) == (
        f"{later} was made by a later version (Agentmesh 3.0.0, format 2): "
        "restore it with that one."
    )


def test_what_is_not_listed_is_refused(tmp_path: Path) -> None:
    """Nothing is restored of which there is no digest, and nothing is missing."""
    path = _written(tmp_path / "a.backup")
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("files/more", "more")
    with Archive(path) as archive, pytest.raises(Damaged) as refused:
        archive.verify()
    assert str(refused.value) == (
        f"{path} is damaged (what is in it is not what it lists): "
        "take another backup, or another copy of it."
    )


_OUTSIDE = (
    *("/etc/passwd", "//etc/passwd", "../outside", "files/../../outside", "", ".", "files/"),
    # What is behind the folder's name is a place of its own.
    *("files//etc/passwd", "postgres/data//etc/passwd", "files/./access"),
)


@pytest.mark.parametrize("place", _OUTSIDE)
def test_nothing_is_written_outside_of_the_directory(tmp_path: Path, place: str) -> None:
    """A file that names such places is refused before anything is read from it."""
    path = tmp_path / "evil.backup"
    for evil in (
        {"members": [Member(place, 1, "0" * 64)]},
        {"databases": [place]},
        {"links": {place: "current"}},
        {"links": {"certificates/gateway/current": place}},
    ):
        writer = ArchiveWriter(path)
        with pytest.raises(Damaged, match="outside of a data directory"):
            writer.finish(_manifest(writer, **evil))
        writer.abandon()
    assert os.listdir(tmp_path) == []


def test_links_do_not_lead_outside_together(tmp_path: Path) -> None:
    """Each of these seems to stay inside, and the second leads above where the first leads."""
    writer = ArchiveWriter(tmp_path / "evil.backup")
    links = {"a/up": "..", "postgres": "a/up/.."}
    with pytest.raises(Damaged, match="outside of a data directory"):
        writer.finish(_manifest(writer, links=links))
    writer.abandon()


def test_a_manifest_that_unpacks_without_end_is_refused(tmp_path: Path) -> None:
    """A small file does not take the memory of the machine."""
    path = tmp_path / "bomb.backup"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(MANIFEST, "w") as into,
    ):
        for _ in range(65):
            into.write(b" " * (1 << 20))
    with pytest.raises(Damaged, match="its manifest is too large"):
        Archive(path)
