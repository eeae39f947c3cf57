"""What a mesh on one machine is started with."""

import os
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

DEFAULT_PORT: Final = 8080
# Staging's port for TLS lies this far above the gateway's: 8443 beside 8080.
TLS_OFFSET: Final = 363
MAX_PORT: Final = 65535 - TLS_OFFSET
LOOPBACK: Final = "127.0.0.1"


class Tier(StrEnum):
    """How much of the real thing runs."""

    # All services in one process.
    PROTOTYPE = "prototype"
    # One process a service.
    STAGING = "staging"


def default_data_dir() -> Path:
    """Where a mesh keeps its state unless told otherwise."""
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(base).expanduser() / "agentmesh"


@dataclass(frozen=True, slots=True)
class MeshOptions:
    """What `agentmesh up` is told."""

    tier: Tier = Tier.PROTOTYPE
    data_dir: Path = field(default_factory=default_data_dir)
    # The gateway's port; 0 for a free one.
    port: int = DEFAULT_PORT
    # A YAML file with a section for each service.
    config: Path | None = None
    # Executor processes; None for as many as last time, else one. The prototype has one, in its
    # own process.
    executors: int | None = None
    # Processes of each service that keeps no files: governor, reasoning and tool; and of the
    # coordinator, where its read model is shared. None as above.
    replicas: int | None = None
    # Staging's PostgreSQL: a launcher, or the folder of its programs; None for none.
    postgres: Path | None = None
    # The address at which the gateway takes TLS.
    listen: str = LOOPBACK
    # Staging without credentials of callers, or without TLS between its processes.
    no_auth: bool = False
    no_mtls: bool = False
    # Whether NATS flushes each write to disk before it acknowledges; None for what the tier does.
    sync_always: bool | None = None
    # Of a task log that is yet to be made; None for what the configuration says, or 1.
    task_partitions: int | None = None

    @property
    def flushes(self) -> bool:
        """Whether what was acknowledged survives a power cut."""
        return self.tier is Tier.STAGING if self.sync_always is None else self.sync_always

    @property
    def counters_apart(self) -> bool:
        """Whether counters, which need no flushes, have a Redis of their own."""
        return self.tier is Tier.STAGING and self.flushes

    @property
    def auth(self) -> bool:
        """Whether callers have to show who they are."""
        return self.tier is Tier.STAGING and not self.no_auth

    @property
    def mtls(self) -> bool:
        """Whether processes of the mesh show each other who they are."""
        return self.tier is Tier.STAGING and not self.no_mtls

    @property
    def tls_port(self) -> int:
        """The port at which staging's gateway takes TLS; 0 for a free one."""
        return self.port + TLS_OFFSET if self.port else 0

    def to_json(self) -> dict[str, object]:
        """The options as plain values, with paths that hold in any folder."""
        return {
            "tier": str(self.tier),
            "data_dir": str(self.data_dir.expanduser().absolute()),
            "port": self.port,
            "config": str(self.config.absolute()) if self.config else None,
            "executors": self.executors,
            "replicas": self.replicas,
            "postgres": str(self.postgres.absolute()) if self.postgres else None,
            "listen": self.listen,
            "no_auth": self.no_auth,
            "no_mtls": self.no_mtls,
            "sync_always": self.sync_always,
            "task_partitions": self.task_partitions,
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "MeshOptions":
        """What `to_json` was called on."""
        return cls(
            tier=Tier(values["tier"]),
            data_dir=Path(values["data_dir"]),
            port=values["port"],
            config=Path(values["config"]) if values["config"] else None,
            executors=values["executors"],
            replicas=values["replicas"],
            postgres=Path(values["postgres"]) if values["postgres"] else None,
            listen=values["listen"],
            no_auth=values["no_auth"],
            no_mtls=values["no_mtls"],
            sync_always=values["sync_always"],
            task_partitions=values["task_partitions"],
        )
