"""What is known of the mesh that runs on a data directory."""

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from tier.data_dir import DataDir
from tier.options import Tier


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process of the mesh."""

    name: str
    pid: int
    version: str
    ports: tuple[int, ...]
    log: Path | None
    # How often it was started again, and why and when it ended last; empty where it never did.
    restarts: int = 0
    last_death: str = ""

    def to_json(self) -> dict[str, object]:
        """The record as plain values."""
        return {
            "name": self.name,
            "pid": self.pid,
            "version": self.version,
            "ports": list(self.ports),
            "log": str(self.log) if self.log else None,
            "restarts": self.restarts,
            "last_death": self.last_death,
        }


@dataclass(frozen=True, slots=True)
class MeshState:
    """A running mesh, as written to `run/state.json`."""

    pid: int
    # From /proc: tells this process from a later one with the same pid.
    process_start_ticks: int
    tier: Tier
    version: str
    started: datetime
    data_dir: Path
    # Of the gateway, `host:port`.
    address: str
    # The socket at which the gateway's Envoy is asked; None where an earlier version started the
    # mesh, which had a port for it.
    admin_address: Path | None
    config: Path | None
    processes: tuple[ProcessRecord, ...]
    # What this tier plainly does not do, a sentence each.
    notes: tuple[str, ...]
    # Full names of the services that the mesh offers.
    services: tuple[str, ...]
    # Where the gateway takes TLS, `address:port`; None where it does not.
    tls_address: str | None = None
    # Whether its processes know each other by certificates.
    mtls: bool = False

    def to_json(self) -> dict[str, object]:
        """The state as plain values."""
        return {
            "pid": self.pid,
            "process_start_ticks": self.process_start_ticks,
            "tier": str(self.tier),
            "version": self.version,
            "started": self.started.isoformat(),
            "data_dir": str(self.data_dir),
            "address": self.address,
            "tls_address": self.tls_address,
            "mtls": self.mtls,
            "admin_address": str(self.admin_address) if self.admin_address else None,
            "config": str(self.config) if self.config else None,
            "processes": [each.to_json() for each in self.processes],
            "notes": list(self.notes),
            "services": list(self.services),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "MeshState":
        """What `to_json` was called on; KeyError, TypeError or ValueError for anything else."""
        return cls(
            pid=int(values["pid"]),
            process_start_ticks=int(values["process_start_ticks"]),
            tier=Tier(values["tier"]),
            version=values["version"],
            started=datetime.fromisoformat(values["started"]),
            data_dir=Path(values["data_dir"]),
            address=values["address"],
            admin_address=_socket(values["admin_address"]),
            config=Path(values["config"]) if values["config"] else None,
            processes=tuple(
                ProcessRecord(
                    each["name"],
                    int(each["pid"]),
                    each["version"],
                    tuple(each["ports"]),
                    Path(each["log"]) if each["log"] else None,
                    int(each["restarts"]),
                    each["last_death"],
                )
                for each in values["processes"]
            ),
            notes=tuple(values["notes"]),
            services=tuple(values["services"]),
            tls_address=values["tls_address"],
            mtls=values["mtls"],
        )


def _socket(address: str | None) -> Path | None:
    return Path(address) if address and Path(address).is_absolute() else None


def read_state(data_dir: Path) -> MeshState | None:
    """The mesh that runs on `data_dir`; what an earlier one left behind is removed."""
    file = DataDir(data_dir).state_file
    try:
        state = MeshState.from_json(json.loads(file.read_text("utf-8")))
    except (OSError, KeyError, TypeError, ValueError):
        return None
    if start_ticks(state.pid) == state.process_start_ticks:
        return state
    file.unlink(missing_ok=True)
    return None


def write_state(state: MeshState) -> None:
    """Replaces the state at once, so that nobody reads half of it."""
    file = DataDir(state.data_dir).state_file
    draft = file.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(state.to_json(), indent=1), "utf-8")
    draft.replace(file)


def start_ticks(pid: int) -> int | None:
    """When the process started, in clock ticks since the machine did; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    # The name in parentheses may itself hold spaces and parentheses.
    fields = text.rpartition(")")[2].split()
    # A zombie has ended, though it still has an entry.
    return None if fields[0] == "Z" else int(fields[19])
