"""Tell which wheels pip has installed, of all that the lock allows.

Prints JSON: by normalised name the version, the file's name and its SHA-256. What
pip reports besides, such as where it has downloaded them, concerns one machine alone.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


def wheels(report: Any) -> dict[str, dict[str, str]]:
    """Return the wheels in a report of `pip install --report`."""
    found: dict[str, dict[str, str]] = {}
    for each in report["install"]:
        metadata, download = each["metadata"], each["download_info"]
        algorithm, _, digest = download["archive_info"]["hash"].partition("=")
        if algorithm != "sha256":
            raise ValueError(f"{metadata['name']} is known by its {algorithm}, not its sha256")
        name = re.sub(r"[-_.]+", "-", metadata["name"]).lower()
        url: str = download["url"]
        file = unquote(urlsplit(url).path.rpartition("/")[2])
        found[name] = {"version": metadata["version"], "file": file, "sha256": digest}
    return dict(sorted(found.items()))


def main(report: str) -> None:
    """Print the wheels in the report."""
    print(json.dumps(wheels(json.loads(Path(report).read_text("utf-8"))), indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
