"""The shipped configuration of the proxy, moved to where a mesh has its addresses and files."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import yaml

from tier.certificate_files import CertificateFiles
from tier.endpoint_files import endpoint_file

SHIPPED: Final = Path("mesh/envoy/proxy.yaml")


@dataclass(frozen=True, slots=True)
class ProxyPlaces:
    """Where the proxy listens, and its files."""

    # By the service that is called.
    ports: Mapping[str, int]
    # The folder of the files that say where instances are.
    endpoints: Path
    access_log: Path
    # None for a mesh that talks in plain text.
    certificates: CertificateFiles | None


def read_shipped(repository: Path) -> Any:
    """The shipped file, parsed."""
    return yaml.load((repository / SHIPPED).read_text("utf-8"), Loader=yaml.CSafeLoader)


def relocate(shipped: Any, places: ProxyPlaces) -> Any:
    """A copy with these places instead of the shipped ones, and without what asks for
    certificates where there are none; everything else stays.

    KeyError where a service has no port in `places`.
    """
    # The copy is through and through: YAML anchors make shared objects.
    config = unshared(shipped)
    resources = config["static_resources"]
    for listener in resources["listeners"]:
        port = places.ports[listener["name"]]
        listener["address"]["socket_address"]["port_value"] = port
        (chain,) = listener["filter_chains"]
        manager = chain["filters"][0]["typed_config"]
        manager["access_log"][0]["typed_config"]["path"] = str(places.access_log)
        _secure(chain, places.certificates)
        if places.certificates is None:
            rbac = manager["http_filters"][0]["typed_config"]["rules"]
            for policy in rbac["policies"].values():
                _without_certificates(policy)
    for cluster in resources["clusters"]:
        source = cluster["eds_cluster_config"]["eds_config"]["path_config_source"]
        source["path"] = str(endpoint_file(places.endpoints, cluster["name"]))
        _secure(cluster, places.certificates)
    return config


def _secure(part: Any, certificates: CertificateFiles | None) -> None:
    """Moves the secrets of a listener or a cluster; without certificates it becomes plain."""
    if certificates is None:
        del part["transport_socket"]
        return
    context = part["transport_socket"]["typed_config"]["common_tls_context"]
    (own,) = context["tls_certificate_sds_secret_configs"]
    validation = context.get("combined_validation_context", context)
    _move(own, certificates.certificate_secret)
    _move(validation["validation_context_sds_secret_config"], certificates.authority_secret)


def _move(secret: Any, file: Path) -> None:
    secret["sds_config"]["path_config_source"]["path"] = str(file)


def _without_certificates(policy: Any) -> None:
    """Has a rule go by what callers say of themselves."""
    for principal in policy["principals"]:
        ids = principal["and_ids"]["ids"]
        ids[:] = [each for each in ids if "authenticated" not in each]


def unshared(value: Any) -> Any:
    """A copy in which nothing is shared, not even what the file says once and refers to."""
    if isinstance(value, dict):
        return {key: unshared(each) for key, each in cast(dict[str, Any], value).items()}
    if isinstance(value, list):
        return [unshared(each) for each in cast(list[Any], value)]
    return value
