"""What we ask of every container of staging, beyond what its schema does."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

# An exact version or a digest; what is behind `latest` or `1` changes under our feet.
_IMAGE: Final = re.compile(r"[a-z0-9/_-]+(:v?\d+(\.\d+)+(-[a-z0-9.-]+)?|@sha256:[0-9a-f]{64})")
_LOOPBACK: Final = re.compile(r"(127\.0\.0\.1|\[::1\]):\S+")
_USER: Final = re.compile(r"\$\{MESH_USER:\?[^}]*\}")
_SECRET_NAME: Final = re.compile(r"KEY|PASSWORD|TOKEN|SECRET|CREDENTIAL")
_SECRET_TEXT: Final = re.compile(r"-----BEGIN|\bsk-[A-Za-z0-9]|\bamk_|://[^/@\s:]+:[^/@\s]+@")
# The one that holds the network of all.
_NETWORK: Final = "network"
_LIMITS: Final = ("cpus", "mem_limit", "pids_limit")


def findings(compose: Mapping[str, Any]) -> Iterator[str]:
    """What breaks our rules."""
    services: Mapping[str, Any] = compose["services"]
    for name, service in services.items():
        yield from (f"{name}: {each}" for each in _of_one(name, service))
        for each in service.get("depends_on", {}):
            if "healthcheck" not in services.get(each, {}):
                yield f"{name}: waits for {each}, of which nobody can tell whether it works"
        for kind in ("configs", "secrets"):
            for each in service.get(kind, ()):
                source = each if isinstance(each, str) else each["source"]
                if source not in compose.get(kind, {}):
                    yield f"{name}: there is no {source} among the {kind}"
    for kind in ("configs", "secrets"):
        for name, source in compose.get(kind, {}).items():
            if source.keys() != {"file"}:
                yield f"{name}: is in no file"


def _of_one(name: str, service: Mapping[str, Any]) -> Iterator[str]:
    image = service.get("image", "")
    if not _IMAGE.fullmatch(image):
        yield f"the image {image} has neither a digest nor an exact version"
    if service.get("read_only") is not True:
        yield "may write to its image's files"
    if not _USER.fullmatch(service.get("user", "")):
        yield "does not run as who owns the files"
    if service.get("cap_drop") != ["ALL"] or service.get("cap_add"):
        yield "keeps capabilities"
    if "no-new-privileges:true" not in service.get("security_opt", ()) or service.get("privileged"):
        yield "may gain privileges"
    for each in _LIMITS:
        if each not in service:
            yield f"{each} is not set"
    if not service.get("healthcheck", {}).get("test"):
        yield "has no health check"
    if service.get("restart") != "unless-stopped":
        yield "stays away when it died"
    if not service.get("logging", {}).get("options", {}).get("max-size"):
        yield "fills the disk with its log"
    if name != _NETWORK and service.get("network_mode") != f"service:{_NETWORK}":
        yield "has a network of its own, where others find it"
    if service.get("ports") and name != _NETWORK:
        yield "publishes ports"
    for port in service.get("ports", ()):
        if not _LOOPBACK.fullmatch(str(port)):
            yield f"publishes {port} beyond this machine"
    for volume in service.get("volumes", ()):
        if not str(volume).startswith("${MESH_FILES:?}/"):
            yield f"sees {volume}, which is not the mesh's"
    for variable, value in service.get("environment", {}).items():
        if _SECRET_NAME.search(variable) and not variable.endswith("_FILE"):
            yield f"{variable} has its value here"
        if _SECRET_TEXT.search(str(value)):
            yield f"{variable} begins what looks like a secret"
