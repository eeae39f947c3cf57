"""Where an Envoy finds what it calls while instances come and go, and whom it takes them for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tier.certificate_files import CertificateFiles
from tier.endpoint_files import endpoint_file
from tier.identities import host_name, spiffe_id

_TLS: Final = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_TLS_1_3: Final = "TLSv1_3"


@dataclass(frozen=True, slots=True)
class Upstreams:
    """How clusters follow the instances of services."""

    # The folder of the files that say where instances are.
    endpoints: Path
    # By which the Envoy calls; None in plain text.
    certificates: CertificateFiles | None

    def follow(self, cluster: Any, holder: str) -> None:
        """Has a cluster take its instances from a file, and no other than those of `holder`.

        `holder` is the name in their certificates.
        """
        cluster["type"] = "EDS"
        del cluster["load_assignment"]
        file = endpoint_file(self.endpoints, cluster["name"])
        cluster["eds_cluster_config"] = {"eds_config": _from_file(file)}
        # What is taken from the file gets no more calls, and ends those that it has.
        cluster["ignore_health_on_host_removal"] = True
        if self.certificates:
            cluster["transport_socket"] = {
                "name": "envoy.transport_sockets.tls",
                "typed_config": _tls(self.certificates, holder),
            }


def _tls(certificates: CertificateFiles, holder: str) -> Any:
    exact = {"exact": spiffe_id(holder)}
    return {
        "@type": _TLS,
        "sni": host_name(holder),
        "common_tls_context": {
            "alpn_protocols": ["h2"],
            "tls_params": {
                "tls_minimum_protocol_version": _TLS_1_3,
                "tls_maximum_protocol_version": _TLS_1_3,
            },
            "tls_certificate_sds_secret_configs": [
                {"name": "certificate", "sds_config": _from_file(certificates.certificate_secret)}
            ],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": exact}]
                },
                "validation_context_sds_secret_config": {
                    "name": "authority",
                    "sds_config": _from_file(certificates.authority_secret),
                },
            },
        },
    }


def _from_file(file: Path) -> Any:
    return {"resource_api_version": "V3", "path_config_source": {"path": str(file)}}
