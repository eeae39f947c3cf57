"""Who is who in a mesh on one machine: the names in certificates."""

from typing import Final

# The trust domain of SPIFFE ids, and the domain of the services' names.
DOMAIN: Final = "agentmesh.local"
# The proxies, by their certificates' names.
GATEWAY: Final = "gateway"
PROXY: Final = "proxy"
# Who starts the services, asks them whether they serve, and answers for all of them.
SUPERVISOR: Final = "supervisor"


def spiffe_id(name: str) -> str:
    """Who a certificate of that name says that its holder is."""
    return f"spiffe://{DOMAIN}/{name}"


def host_name(name: str) -> str:
    """The host name in the certificate of who is no proxy."""
    return f"{name}.{DOMAIN}"
