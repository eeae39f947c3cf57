"""Text files that the user names."""

from pathlib import Path

from cli.problem import Problem


def read_text(path: Path) -> str:
    """The file's text; Problem where it is missing, unreadable or not UTF-8."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as error:
        raise Problem(f"{path}: cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Problem(
            f"{path}: is not UTF-8 text: invalid byte at offset {error.start}."
        ) from error
