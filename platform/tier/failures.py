"""Why a mesh does not start. Each text is one line: what is wrong, and what to do."""

from pathlib import Path
from typing import Final


class MeshStartError(Exception):
    """Base of them all."""


class PortTaken(MeshStartError):
    """Somebody listens where the gateway should."""

    def __init__(self, port: int, holder: str | None, purpose: str) -> None:
        by = f" by {holder}" if holder else ""
        super().__init__(
            f"Port {port} ({purpose}) is taken{by}: end that, or choose another with --port."
        )


class DataDirNotWritable(MeshStartError):
    """The state cannot be kept where it should be."""

    def __init__(self, path: Path, cause: str) -> None:
        super().__init__(
            f"The data directory {path} is not writable ({cause}): "
            "make it writable, or choose another with --data-dir."
        )


class DataDirFull(MeshStartError):
    """There is no room for the state."""

    def __init__(self, path: Path, wanted_bytes: int) -> None:
        super().__init__(
            f"The data directory {path} is on a full disk (less than {wanted_bytes >> 20} MiB left)"
            ": make room there, or choose another with --data-dir."
        )


class BinaryMissing(MeshStartError):
    """A server that the mesh consists of is not there."""

    def __init__(self, title: str, variable: str, looked: str) -> None:
        super().__init__(
            f"The {title} binary is missing ({looked}): "
            f"start with ./agentmesh, which brings it, or set {variable} to its path."
        )


class AlreadyRunning(MeshStartError):
    """One data directory serves one mesh at a time."""

    def __init__(self, data_dir: Path, pid: int | None) -> None:
        by = f" (pid {pid})" if pid else ""
        super().__init__(
            f"A mesh already runs on {data_dir}{by}: "
            "use it, end it with `agentmesh down`, or choose another with --data-dir."
        )


class RestoreUnfinished(MeshStartError):
    """What is there is half of a backup."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(
            f"A restore of {data_dir} is not finished: wait for it, or where it broke off run "
            "`agentmesh restore` again."
        )


class BadConfig(MeshStartError):
    """The configuration is wrong; the text says where."""


class BadOptions(MeshStartError):
    """The options make no sense; the text says which."""


class ScaleUnreadable(MeshStartError):
    """How many processes parts had last is not known."""

    def __init__(self, file: Path, cause: str) -> None:
        super().__init__(
            f"{file} does not say how many processes parts have ({cause.rstrip('.')}): mend it, or "
            "go back to one of each with `agentmesh scale --forget`."
        )


class ScaleNotKept(MeshStartError):
    """How many processes parts have is not known to the next start."""

    def __init__(self, file: Path, cause: str) -> None:
        super().__init__(
            f"{file} cannot be written ({cause}): the processes run, but the next `agentmesh up` "
            "does not start as many."
        )


class AuthorityUnreadable(MeshStartError):
    """The mesh's own authority is there in part only."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"The certificate authority in {folder} is not whole: restore it from a backup, or"
            " remove the folder, and all who trusted it have to trust the new one."
        )


class StartFailed(MeshStartError):
    """A part did not come up, or could not be kept up."""

    def __init__(self, part: str, cause: str, log: Path | None) -> None:
        see = f" See {log}." if log else ""
        super().__init__(f"Failed to start {part}: {cause.rstrip('.')}.{see}")


_KINDS: Final[dict[str, type[MeshStartError]]] = {
    each.__name__: each
    for each in (
        PortTaken,
        DataDirNotWritable,
        DataDirFull,
        BinaryMissing,
        AlreadyRunning,
        RestoreUnfinished,
        BadConfig,
        BadOptions,
        ScaleUnreadable,
        ScaleNotKept,
        StartFailed,
    )
}


def from_kind(kind: str, text: str) -> MeshStartError:
    """The failure that another process described by its class and its text."""
    cls = _KINDS.get(kind, MeshStartError)
    failure = cls.__new__(cls)  # constructors differ; the text is what counts
    failure.args = (text,)
    return failure
