"""A real NATS server with JetStream on disk."""

from pathlib import Path
from typing import Final

from meshtest.child_server import ChildServer, binary, exchange


class NatsServer(ChildServer):
    """Started in a folder of its own; keeps port and streams over restarts."""

    def __init__(self, folder: Path, *, settings: str = "", accounts: int = 0) -> None:
        """What it is started with.

        Args:
            folder: Of its configuration, streams and log.
            settings: Further lines of the configuration file.
            accounts: How many times `new_account` may be called.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._executable: Final = binary("NATS_SERVER")
        self._configuration: Final = folder / "nats.conf"
        self._configuration.write_text(
            f'jetstream {{ store_dir: "{folder / "jetstream"}" }}\n{settings}\n'
            f"{_accounts(accounts)}"
        )
        self._unused_accounts: Final = iter(range(accounts))
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

    def new_account(self) -> str:
        """Where clients connect to streams and subjects that nobody has used yet.

        Those who are in different accounts do not hear of each other.
        """
        name = _name(next(self._unused_accounts))
        return f"nats://{name}:{name}@127.0.0.1:{self.port}"


def _accounts(count: int) -> str:
    if not count:
        return ""
    each = (
        f"{name}: {{ jetstream: enabled, users: [{{ user: {name}, password: {name} }}] }}"
        for name in map(_name, range(count))
    )
    return "accounts {\n" + "\n".join(each) + "\n}\n"


def _name(account: int) -> str:
    return f"account_{account}"
