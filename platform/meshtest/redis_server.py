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
            lambda port: [
                *(self._executable, "--bind", "127.0.0.1", "--port", str(port)),
                *("--dir", folder, "--appendonly", "yes", "--appendfsync", "everysec"),
                *("--save", ""),
            ],
            log_path=folder / "redis.log",
            answers=lambda port: exchange(port, b"PING\r\n").startswith(b"+PONG"),
        )

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://127.0.0.1:{self.port}"
