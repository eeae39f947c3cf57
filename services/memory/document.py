"""Documents: as they are handed in, as they are stored, and the passages they are split into."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto

from meshkit.mesh_error import MeshError


@dataclass(frozen=True, slots=True)
class Source:
    """A document as a client hands it in."""

    # Identifies the document within its tenant.
    uri: str
    # Empty to take it from the content, or else from the uri.
    title: str
    # Empty to tell it by the ending of the uri.
    media_type: str
    content: bytes
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Version:
    """One state of one document: what its passages are stored under."""

    id: str
    passage_count: int


@dataclass(frozen=True, slots=True)
class Document:
    """A document that is stored."""

    id: str
    uri: str
    title: str
    media_type: str
    # SHA-256 of the content in lower-case hexadecimal.
    digest: str
    # How the passages were made of the content. Another recipe gives other passages.
    recipe: str
    version: Version
    size_bytes: int
    update_time: datetime
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of a document that is found by itself; it stands in `start_line` to `end_line`."""

    text: str
    # The headings above it, outermost first.
    headings: tuple[str, ...]
    # From 1, inclusive; 0 where lines mean nothing.
    start_line: int
    end_line: int
    # From 1; 0 where pages mean nothing.
    page: int


class Outcome(Enum):
    """What an upsert did with a document."""

    CREATED = auto()
    UPDATED = auto()
    UNCHANGED = auto()
    FAILED = auto()


@dataclass(frozen=True, slots=True)
class Upserted:
    """What became of a document: `document` as stored, or the `error` that it failed with."""

    uri: str
    outcome: Outcome
    document: Document | None = None
    error: MeshError | None = None
