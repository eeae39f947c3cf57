"""What a command shows the gateway: a key or a token that it was given, or the owner's own."""

import getpass
import ipaddress
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cli.gateway_address import GatewayAddress
from cli.invocation import Invocation
from cli.problem import Problem
from cli.text_file import read_text
from tier import api as tier

VARIABLE: Final = "AGENTMESH_API_KEY"
# What may stand in a header: neither a blank nor a line's end.
_CREDENTIAL: Final = re.compile(r"[A-Za-z0-9._~+/=-]{16,8192}")
# A token that the command makes for itself stays in its memory, for as long as it may run.
_OWN_TOKEN: Final = timedelta(hours=24)


def gateway_at(invocation: Invocation, place: str) -> GatewayAddress:
    """The gateway at `host:port`, with what it is shown.

    Raises:
        Problem: A file that was named is no good, or a secret would be sent in plain text.
    """
    local = _local(invocation, place)
    credential = _given(invocation) or (_owners(invocation, local) if local else "")
    if credential and not invocation.tls and not _is_this_machine(place):
        raise Problem(
            f"The key would be sent to {place} in plain text.",
            f"Call the gateway by TLS: --gateway https://{place}, with the port that takes it.",
        )
    return GatewayAddress(
        place, tls=invocation.tls, authority=_authority(invocation, local), credential=credential
    )


def _given(invocation: Invocation) -> str:
    """The credential that the user gave; empty where there is none."""
    if invocation.key is not None:
        text, where = read_text(invocation.key), str(invocation.key)
    else:
        text, where = os.environ.get(VARIABLE, ""), VARIABLE
        if not text:
            return ""
    if not _CREDENTIAL.fullmatch(text.strip()):
        raise Problem(f"{where} holds no API key and no token.", "It must be one, alone.")
    return text.strip()


def _local(invocation: Invocation, place: str) -> tier.MeshState | None:
    """The mesh that runs on the data directory, if it is at `place` and asks who calls."""
    state = tier.read_state(invocation.data_dir)
    if state is None or state.tls_address is None or not _is_this_machine(place):
        return None
    ports = {each.rpartition(":")[2] for each in (state.address, state.tls_address)}
    return state if place.rpartition(":")[2] in ports else None


def _owners(invocation: Invocation, mesh: tier.MeshState) -> str:
    """The key of the mesh's owner, or, for another tenant than the key's, a token.

    Empty where this user may not read them.
    """
    from tier.access_files import TENANT, AccessFiles

    files = AccessFiles.of(mesh.data_dir)
    try:
        if invocation.tenant == TENANT:
            return files.local_key.read_text("utf-8").strip()
        return _own_token(files.signing_key, invocation.tenant)
    except (OSError, ValueError):
        return ""


def _own_token(signing_key: Path, tenant: str) -> str:
    """A token for this user as an admin of `tenant`. OSError, or ValueError for no such key."""
    from meshkit.identity import Role
    from tier.access_tokens import SigningKey

    return SigningKey.read(signing_key).token(
        subject=user_name(), tenant=tenant, role=Role.ADMIN, now=datetime.now(UTC), life=_OWN_TOKEN
    )


def user_name() -> str:
    """Who is at the machine, as a caller may be called."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = ""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name) or "cli"


def _authority(invocation: Invocation, local: tier.MeshState | None) -> bytes | None:
    """What the gateway's certificate is checked by; None for what the machine trusts."""
    if not invocation.tls:
        return None
    if invocation.ca is not None:
        text = read_text(invocation.ca)
        if "-----BEGIN CERTIFICATE-----" not in text:
            raise Problem(f"{invocation.ca} holds no certificate.", "It must be one in PEM.")
        return text.encode()
    if local is not None:
        from tier.certificate_files import CERTIFICATES

        try:
            return (local.data_dir / CERTIFICATES / "authority" / "certificate.pem").read_bytes()
        except OSError:
            return None
    return None


def _is_this_machine(place: str) -> bool:
    """Whether what is sent to `host:port` does not leave the machine."""
    host = place.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
