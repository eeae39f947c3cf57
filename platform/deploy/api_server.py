"""Kubernetes' own API server over an etcd, which says whether it would take a manifest.

There are no nodes and no controllers: what it takes is stored, or with dry run not even that.
"""

import base64
import json
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx
import trustme
import yaml

from deploy.render import Manifest
from meshtest.child_server import ChildServer, binary, exchange

# It takes seconds; on a busy machine many more.
_READY_TIMEOUT_SECONDS: Final = 120.0
_CALL_TIMEOUT_SECONDS: Final = 60.0
_TOKEN: Final = "a-token-of-this-run"
_MANAGER: Final = "agentmesh"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server says of a manifest."""

    status: int
    # Why it is refused; empty where it is taken.
    message: str
    # What users would be told besides, such as that an API is to end.
    warnings: tuple[str, ...]


class ApiServer:
    """Both servers, in a folder of their own, from entering it until leaving."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._etcd: Final = _etcd(folder)
        self._folder: Final = folder
        self._kinds: Final[dict[str, dict[str, tuple[str, bool]]]] = {}
        # By which other programs find the server, once it is there.
        self.kubeconfig: Final = folder / "kubeconfig.yaml"

    def __enter__(self) -> Self:
        authority = trustme.CA()
        context = ssl.create_default_context(cadata=authority.cert_pem.bytes().decode())
        self._etcd.start()
        self._server = _api_server(self._folder, authority, context, self._etcd.port)
        try:
            self._server.start()
        except BaseException:
            self._etcd.kill()
            raise
        self._client = _client(self._server.port, context)
        self.kubeconfig.write_text(_kubeconfig(self._server.port, authority), "utf-8")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._client.close()
        self._server.kill()
        self._etcd.kill()

    def define(self, files: Iterable[Path]) -> None:
        """Makes custom resources known, and returns when the server serves them."""
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        found = [
            each
            for file in files
            for each in yaml.load_all(file.read_text("utf-8"), loader)
            if each
        ]
        for each in found:
            if (answer := self.apply(each)).message:
                raise RuntimeError(f"{each['metadata']['name']}: {answer.message}")
        for each in found:
            spec = each["spec"]
            for version in spec["versions"]:
                if version["served"]:
                    self._wait_until_served(f"{spec['group']}/{version['name']}", spec["names"])

    def serves(self, manifest: Manifest) -> bool:
        """Whether it knows the kind."""
        return manifest["kind"] in self._kinds_of(manifest["apiVersion"])

    def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Answer:
        """Applies it as `kubectl apply --server-side` does, which takes no unknown field."""
        parameters = {"fieldManager": _MANAGER, "fieldValidation": "Strict"}
        if dry_run:
            parameters["dryRun"] = "All"
        answer = self._client.patch(
            self._path(manifest),
            params=parameters,
            # Which is YAML, and is written in no time.
            content=json.dumps(manifest),
            headers={"content-type": "application/apply-patch+yaml"},
        )
        warnings = answer.headers.get_list("warning")
        return Answer(
            answer.status_code,
            "" if answer.is_success else answer.json()["message"],
            # As RFC 7234 has them: a number, an agent, and a text in quotes.
            tuple(each.split(" ", 2)[2].strip('"') for each in warnings),
        )

    def delete(self, manifest: Manifest) -> None:
        """Takes away what has been applied."""
        self._client.delete(
            self._path(manifest), params={"gracePeriodSeconds": "0"}
        ).raise_for_status()

    def _path(self, manifest: Manifest) -> str:
        metadata = manifest["metadata"]
        plural, namespaced = self._kinds_of(manifest["apiVersion"])[manifest["kind"]]
        space = f"/namespaces/{metadata['namespace']}" if namespaced else ""
        return f"{_root(manifest['apiVersion'])}{space}/{plural}/{metadata['name']}"

    def _kinds_of(self, api: str, *, anew: bool = False) -> dict[str, tuple[str, bool]]:
        """Of each kind its name in paths, and whether it lives in namespaces."""
        if anew or api not in self._kinds:
            answer = self._client.get(_root(api))
            resources: list[Any] = answer.json()["resources"] if answer.is_success else []
            self._kinds[api] = {
                each["kind"]: (each["name"], each["namespaced"])
                for each in resources
                if "/" not in each["name"]
            }
        return self._kinds[api]

    def _wait_until_served(self, api: str, names: Mapping[str, str]) -> None:
        give_up = time.monotonic() + _READY_TIMEOUT_SECONDS
        path = f"{_root(api)}/{names['plural']}"
        while not (
            self._client.get(path).is_success and names["kind"] in self._kinds_of(api, anew=True)
        ):
            if time.monotonic() > give_up:
                raise RuntimeError(f"The server does not serve {path}")
            # It serves a kind some time after it has taken it, and tells nobody when.
            time.sleep(0.05)


def _root(api: str) -> str:
    return f"/apis/{api}" if "/" in api else f"/api/{api}"


def _etcd(folder: Path) -> ChildServer:
    executable = binary("ETCD")
    return ChildServer(
        lambda port: [
            *(executable, "--data-dir", folder / "etcd", "--log-level", "warn"),
            *("--listen-client-urls", f"http://127.0.0.1:{port}"),
            *("--advertise-client-urls", f"http://127.0.0.1:{port}"),
            *("--listen-peer-urls", "http://127.0.0.1:0"),
            "--unsafe-no-fsync",
        ],
        log_path=folder / "etcd.log",
        answers=lambda port: (
            b"true" in exchange(port, b"GET /health HTTP/1.1\r\nHost: etcd\r\n\r\n")
        ),
        ready_timeout_seconds=_READY_TIMEOUT_SECONDS,
    )


def _api_server(
    folder: Path, authority: trustme.CA, context: ssl.SSLContext, etcd_port: int
) -> ChildServer:
    executable = binary("KUBE_APISERVER")
    key, certificate, tokens = folder / "key.pem", folder / "certificate.pem", folder / "tokens"
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(key)
    issued.cert_chain_pems[0].write_to_path(certificate)
    tokens.write_text(f"{_TOKEN},owner,owner,system:masters\n", "utf-8")
    return ChildServer(
        lambda port: [
            *(executable, "--etcd-servers", f"http://127.0.0.1:{etcd_port}"),
            *("--bind-address", "127.0.0.1", "--secure-port", str(port)),
            *("--advertise-address", "127.0.0.1", "--endpoint-reconciler-type", "none"),
            *("--tls-cert-file", certificate, "--tls-private-key-file", key),
            *("--token-auth-file", tokens, "--authorization-mode", "RBAC"),
            *("--service-cluster-ip-range", "10.0.0.0/16"),
            *("--service-account-issuer", "https://127.0.0.1"),
            *("--service-account-key-file", key, "--service-account-signing-key-file", key),
        ],
        log_path=folder / "kube-apiserver.log",
        answers=lambda port: _is_ready(port, context),
        ready_timeout_seconds=_READY_TIMEOUT_SECONDS,
    )


def _is_ready(port: int, context: ssl.SSLContext) -> bool:
    with _client(port, context) as client:
        try:
            return client.get("/readyz").is_success
        except httpx.TransportError:
            return False


def _kubeconfig(port: int, authority: trustme.CA) -> str:
    name = "only"
    certificate = base64.b64encode(authority.cert_pem.bytes()).decode()
    server = f"https://127.0.0.1:{port}"
    settings = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": name,
                "cluster": {"server": server, "certificate-authority-data": certificate},
            }
        ],
        "users": [{"name": name, "user": {"token": _TOKEN}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    return yaml.safe_dump(settings)


def _client(port: int, context: ssl.SSLContext) -> httpx.Client:
    return httpx.Client(
        base_url=f"https://127.0.0.1:{port}",
        headers={"authorization": f"Bearer {_TOKEN}"},
        timeout=_CALL_TIMEOUT_SECONDS,
        verify=context,
        # No proxy of the environment stands before loopback.
        trust_env=False,
    )
