"""Writes the manifests that are made from others.

./bazelw run //platform/deploy:write
"""

import os
from pathlib import Path
from typing import Any

import yaml

from deploy.generated import manifests
from tier.policy_contracts import shipped


def main() -> None:
    """Writes them into the tree that Bazel was called in, or this folder."""
    root = Path(os.environ.get("BUILD_WORKSPACE_DIRECTORY", "."))
    for path, text in manifests(shipped(), _envoy(root, "gateway"), _envoy(root, "proxy")).items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, "utf-8")


def _envoy(root: Path, name: str) -> Any:
    return yaml.safe_load((root / "mesh/envoy" / f"{name}.yaml").read_text("utf-8"))


if __name__ == "__main__":
    main()
