"""What `istioctl analyze` finds in manifests that are in no cluster.

Without one it looks at Istio's own resources and at the Gateway API's, not at services and pods.
"""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.render import Manifest

_TIMEOUT_SECONDS: Final = 120.0


class _Plain(yaml.SafeDumper):
    """Writes what is there twice twice: not every reader takes references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Finding:
    """One message of istioctl's."""

    # Of Istio's list of messages, such as IST0101.
    code: str
    level: str
    # Kind, namespace and name.
    origin: str
    message: str


def findings(
    istioctl: Path, manifests: Sequence[Manifest], istiod: Mapping[str, Any], folder: Path
) -> list[Finding]:
    """All that it finds, also what it would only mention.

    Args:
        istioctl: the program.
        manifests: what is installed.
        istiod: the values of its chart, by which Istio itself is set up.
        folder: an empty one, for its files.

    Raises:
        CalledProcessError: it could not read a manifest, or did not end as it should.
    """
    files = folder / "manifests.yaml", folder / "mesh.yaml"
    files[0].write_text(yaml.dump_all(manifests, Dumper=_Plain), "utf-8")
    files[1].write_text(yaml.dump(istiod["meshConfig"], Dumper=_Plain), "utf-8")
    command = [
        *(istioctl, "analyze", "--use-kube=false", "--namespace", "agentmesh"),
        *("--output", "json", "--output-threshold", "Info"),
        *("--meshConfigFile", files[1], files[0]),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        timeout=_TIMEOUT_SECONDS,
        # It would look for a cluster's address there.
        env={"HOME": str(folder)},
    )
    if "adding files" in done.stderr:
        raise subprocess.CalledProcessError(done.returncode, "istioctl", done.stdout, done.stderr)
    return [
        Finding(each["code"], each["level"], each["origin"], each["message"])
        for each in json.loads(done.stdout)
    ]
