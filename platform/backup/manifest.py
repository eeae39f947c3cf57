"""What a backup says of itself: the last thing that is written into it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import PurePosixPath
from typing import Any, Final

# To be raised when an older version could not restore what this one writes.
FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Member:
    """A part of the file."""

    name: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who reads a stream, and how far it had come when the stream was not saved yet."""

    # As the broker's API takes it.
    config: Mapping[str, Any]
    # Everything up to that sequence is done with.
    acknowledged: int


@dataclass(frozen=True, slots=True)
class Stream:
    """A stream, a key-value or an object store of the broker."""

    name: str
    # The member that holds it.
    member: str
    config: Mapping[str, Any]
    # At the beginning; under load the member has more.
    state: Mapping[str, Any]
    consumers: Sequence[Consumer]

    @property
    def messages(self) -> int:
        """How many there are at least."""
        return int(self.state["messages"])

    @property
    def last_sequence(self) -> int:
        """The last one's, at the beginning."""
        return int(self.state["last_seq"])


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that is known of a backup."""

    # Of Agentmesh.
    made_by: str
    # Of the servers whose data it holds, such as `nats`.
    versions: Mapping[str, str]
    # Empty where the mesh did not run.
    tier: str
    began: datetime
    ended: datetime
    members: Sequence[Member]
    streams: Sequence[Stream]
    # Databases in files, by the place in the data directory.
    databases: Sequence[str]
    # Where symbolic links in the data directory lead, by their place.
    links: Mapping[str, str]
    # What a person should know, a sentence each.
    notes: Sequence[str]
    format: int = field(default=FORMAT)

    def to_json(self) -> dict[str, Any]:
        """The manifest as plain values."""
        values = asdict(self)
        values["began"], values["ended"] = self.began.isoformat(), self.ended.isoformat()
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Manifest":
        """What `to_json` was called on; KeyError, TypeError or ValueError for anything else."""
        return cls(
            made_by=str(values["made_by"]),
            versions=dict(values["versions"]),
            tier=str(values["tier"]),
            began=datetime.fromisoformat(values["began"]),
            ended=datetime.fromisoformat(values["ended"]),
            members=[Member(**each) for each in values["members"]],
            streams=[
                Stream(
                    each["name"],
                    each["member"],
                    each["config"],
                    each["state"],
                    [Consumer(**one) for one in each["consumers"]],
                )
                for each in values["streams"]
            ],
            databases=list(values["databases"]),
            links=dict(values["links"]),
            notes=list(values["notes"]),
            format=int(values["format"]),
        )


def stays_inside(place: str) -> bool:
    """Whether a place, or where a link leads, is below the folder from which it is told.

    It is spelt in one way only: behind `a/` in `a//b` stands the place `/b`. Links of which each
    stays inside lead nowhere else together, either.
    """
    path = PurePosixPath(place)
    is_below = bool(path.parts) and not path.is_absolute() and ".." not in path.parts
    return is_below and str(path) == place
