"""Where the instances of each service are, in files that Envoy follows."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tier.ports import HOST

_ASSIGNMENT: Final = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"


class EndpointFiles:
    """A file for each cluster; Envoy reads it again as soon as it is replaced."""

    def __init__(self, folder: Path) -> None:
        """`folder` exists, and belongs to one mesh."""
        self._folder: Final = folder
        # Envoy tells in its administration which version it goes by.
        self._versions: Final = itertools.count(1)

    @property
    def folder(self) -> Path:
        """Where the files lie."""
        return self._folder

    def write(self, cluster: str, ports: Sequence[int], *, draining: Sequence[int] = ()) -> None:
        """From now on the instances of `cluster` are at these ports of this machine.

        Those that are `draining` finish the calls that they have, and get no others.
        """
        endpoints = [
            *(_endpoint(port) for port in ports),
            *({**_endpoint(port), "health_status": "DRAINING"} for port in draining),
        ]
        content = {
            "version_info": str(next(self._versions)),
            "resources": [
                {
                    "@type": _ASSIGNMENT,
                    "cluster_name": cluster,
                    "endpoints": [{"lb_endpoints": endpoints}],
                }
            ],
        }
        file = endpoint_file(self._folder, cluster)
        # Envoy follows moves alone, so it never reads half of a file.
        draft = file.with_suffix(".new")
        draft.write_text(json.dumps(content, indent=1), "utf-8")
        draft.replace(file)


def endpoint_file(folder: Path, cluster: str) -> Path:
    """Of one cluster."""
    return folder / f"{cluster}.json"


def _endpoint(port: int) -> dict[str, Any]:
    return {"endpoint": {"address": {"socket_address": {"address": HOST, "port_value": port}}}}
