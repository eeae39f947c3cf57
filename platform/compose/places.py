"""Where everything is in the one network that all containers of staging share."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

HOST: Final = "127.0.0.1"
NATS_URL: Final = f"nats://{HOST}:4222"
REDIS_URL: Final = f"redis://{HOST}:6379"
QDRANT_URL: Final = f"http://{HOST}:6333"
POSTGRES_URL: Final = f"postgresql://agentmesh@{HOST}:5432/agentmesh"
# Within its containers, where a service keeps its files and finds its secrets.
DATA: Final = "/var/lib/agentmesh"
SECRETS: Final = Path("/run/secrets")
# Where the gateway takes TLS, and calls in plain text from within the network.
TLS_PORT: Final = 8443
PLAIN_PORT: Final = 8080


@dataclass(frozen=True, slots=True)
class Ports:
    """Where services are, and where others call them."""

    # Of the services themselves, by name; the executors' are in compose.yaml.
    services: Mapping[str, int]
    # Of the proxy's listeners, by the service behind each.
    calls: Mapping[str, int]


def ports(gateway: Any, proxy: Any) -> Ports:
    """The ports of the shipped Envoy configurations, parsed."""
    services: dict[str, int] = {}
    for cluster in gateway["static_resources"]["clusters"]:
        (locality,) = cluster["load_assignment"]["endpoints"]
        (one,) = locality["lb_endpoints"]
        services[cluster["name"]] = _port(one["endpoint"])
    calls = {each["name"]: _port(each) for each in proxy["static_resources"]["listeners"]}
    return Ports(services, calls)


def _port(addressed: Any) -> int:
    return int(addressed["address"]["socket_address"]["port_value"])
