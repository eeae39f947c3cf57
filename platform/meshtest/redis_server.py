"""A real Redis server with an append-only file."""

from pathlib import Path
from typing import Final

from meshtest.child_server import ChildServer, binary, exchange


class RedisServer(ChildServer):
    """Started in a folder of its own; keeps port and data over restarts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._executable: Final = binary("REDIS_SERVER")
        super().__init__(
            # What is answered is the system's, and outlives the process: no flush under way
            # keeps Redis from writing, as it may with `everysec`.
            lambda port: [
                *(self._executable, "--bind", "127.0.0.1", "--port", str(port)),
                *("--dir", folder, "--appendonly", "yes", "--appendfsync", "no"),
                *("--save", ""),
            ],
            log_path=folder / "redis.log",
            answers=lambda port: exchange(port, b"PING\r\n").startswith(b"+PONG"),
        )

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self.port}"
