"""Which wheels the build has installed, each by its hash."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Wheel:
    """One file from the package index, as the lock allowed it."""

    # Normalised, as in the lock.
    name: str
    version: str
    # The file's name, which says for which Pythons and machines it is.
    file: str
    sha256: str

    @property
    def purl(self) -> str:
        """The package's name for tools that look for vulnerabilities."""
        return f"pkg:pypi/{self.name}@{self.version}"


def read(file: Path) -> Mapping[str, Wheel]:
    """All that were installed, by name."""
    return {name: Wheel(name, **each) for name, each in json.loads(file.read_text("utf-8")).items()}


def normalize(name: str) -> str:
    """The one spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()
