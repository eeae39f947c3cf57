"""Why a backup is not made, or not restored. Each text is one line: what is wrong, what to do."""

from pathlib import Path


class BackupError(Exception):
    """Base of them all."""


class NothingThere(BackupError):
    """There is no state to save."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(
            f"There is no mesh's state in {data_dir}: name its directory with --data-dir."
        )


class FileExists(BackupError):
    """A backup never replaces a file."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} exists: choose another name, or name a folder.")


class NotABackup(BackupError):
    """The file is none, or one that was not finished."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is not a whole backup: it is another file, or one that was cut off. "
            "Take another one."
        )


class Damaged(BackupError):
    """The file is not what was written."""

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path} is damaged ({what}): take another backup, or another copy of it.")


class NewerBackup(BackupError):
    """A later version made the file."""

    def __init__(self, path: Path, made_by: str, why: str) -> None:
        super().__init__(
            f"{path} was made by a later version (Agentmesh {made_by}, {why}): "
            "restore it with that one."
        )


class NotEmpty(BackupError):
    """A restore adds to nothing and replaces nothing."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(
            f"The data directory {data_dir} is not empty: move it away, or choose another with "
            "--data-dir."
        )


class SaveFailed(BackupError):
    """A store could not be saved."""

    def __init__(self, what: str, cause: str) -> None:
        super().__init__(
            f"Failed to save {what}: {cause.rstrip('.')}. Nothing was kept; try again."
        )


class RestoreFailed(BackupError):
    """A store could not be restored."""

    def __init__(self, what: str, cause: str) -> None:
        super().__init__(
            f"Failed to restore {what}: {cause.rstrip('.')}. The data directory is empty again."
        )
