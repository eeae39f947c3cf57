"""Saving all that a mesh keeps in one file, and restoring it: all that others use."""

from pathlib import Path

from backup.archive import Archive
from backup.failures import BackupError
from backup.manifest import Manifest
from backup.progress import Counter, Progress, Step
from backup.restoring import Restored, restore
from backup.saving import Saved, as_json, save

__all__ = [
    "BackupError",
    "Manifest",
    "Progress",
    "Restored",
    "Saved",
    "Step",
    "as_json",
    "restore",
    "save",
    "verify",
]


def verify(file: Path, progress: Progress) -> Manifest:
    """Reads all of a backup and compares it with its digests; what it says of itself.

    Raises:
        BackupError: It is not a whole backup, was made by a later version, or is damaged.
        OSError: It cannot be read.
    """
    with Archive(file) as archive:
        counter = Counter(progress, 1)
        counter.begin("reading it")
        archive.verify(counter.count)
        return archive.manifest
