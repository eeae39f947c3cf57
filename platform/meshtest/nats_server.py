"""A real NATS server with JetStream on disk."""

from pathlib import Path
from typing import Final

from meshtest.child_server import ChildServer, binary, exchange


class NatsServer(ChildServer):
    """Started in a folder of its own; keeps port and streams over restarts."""

    def __init__(self, folder: Path, *, settings: str = "") -> None:
        """`settings`: further lines of the configuration file."""
        folder.mkdir(parents=True, exist_ok=True)
        self._executable: Final = binary("NATS_SERVER")
        self._configuration: Final = folder / "nats.conf"
        self._configuration.write_text(
            f'jetstream {{ store_dir: "{folder / "jetstream"}" }}\n{settings}\n'
        )
        super().__init__(
            lambda port: [
                *(self._executable, "-c", self._configuration),
                *("-a", "127.0.0.1", "-p", str(port)),
            ],
            log_path=folder / "nats.log",
            answers=lambda port: exchange(port, b"").startswith(b"INFO"),
        )

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"
