"""Istio's own program: what it finds, and what it makes of values and of workloads."""

import json
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from deploy.names import NAMESPACE
from deploy.render import Manifest

_TIMEOUT_SECONDS: Final = 120.0
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Plain(yaml.SafeDumper):
    """Writes what is there twice twice: not every reader takes references."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Finding:
    """One message of its analysis."""

    # Of Istio's list of messages, such as IST0101.
    code: str
    level: str
    # Kind, namespace and name.
    origin: str
    message: str


class Istioctl:
    """The program, which keeps its files in a folder.

    Its methods raise CalledProcessError where it could not read a manifest, or did not end as it
    should.
    """

    def __init__(self, program: Path, folder: Path) -> None:
        """`folder` is an empty one."""
        self._program: Final = program
        self._folder: Final = folder

    def findings_in_files(
        self, manifests: Sequence[Manifest], istiod: Mapping[str, Any]
    ) -> list[Finding]:
        """All that it finds in manifests that are in no cluster, also what it would only mention.

        It looks at Istio's own resources and at the Gateway API's, not at services and pods.
        `istiod` are the values of its chart, by which Istio itself is set up.
        """
        return self._analyze(
            "--use-kube=false",
            *("--meshConfigFile", self._write("mesh.yaml", [istiod["meshConfig"]])),
            self._write("manifests.yaml", manifests),
        )

    def findings_in_cluster(self, kubeconfig: Path) -> list[Finding]:
        """All that it finds in the mesh's namespace there."""
        return self._analyze("--kubeconfig", kubeconfig)

    def installation(self, istiod: Mapping[str, Any], *, profile: str) -> list[Manifest]:
        """What its charts make of the values for `istiod`."""
        values = {name: value for name, value in istiod.items() if name != "meshConfig"}
        operator = {
            "apiVersion": "install.istio.io/v1alpha1",
            "kind": "IstioOperator",
            "spec": {
                "profile": profile,
                # By this it knows of the value, which it would overwrite.
                "components": {"cni": istiod["pilot"]["cni"]},
                "meshConfig": istiod["meshConfig"],
                "values": values,
            },
        }
        made = self._run("manifest", "generate", "-f", self._write("operator.yaml", [operator]))
        return [each for each in yaml.load_all(made.stdout, _LOADER) if each]

    def injected(
        self, manifests: Sequence[Manifest], installation: Sequence[Manifest], kubeconfig: Path
    ) -> list[Manifest]:
        """The same with a sidecar in each workload, as the Istio of that installation makes it."""
        settings = _settings(installation)
        mesh, injector = self._folder / "mesh.yaml", self._folder / "injector.yaml"
        values = self._folder / "values.json"
        mesh.write_text(settings["istio"]["mesh"], "utf-8")
        injector.write_text(settings["istio-sidecar-injector"]["config"], "utf-8")
        values.write_text(settings["istio-sidecar-injector"]["values"], "utf-8")
        done = self._run(
            *("kube-inject", "--kubeconfig", kubeconfig, "--meshConfigFile", mesh),
            *("--injectConfigFile", injector, "--valuesFile", values),
            *("--filename", self._write("manifests.yaml", manifests)),
        )
        return [each for each in yaml.load_all(done.stdout, _LOADER) if each]

    def _analyze(self, *arguments: str | Path) -> list[Finding]:
        done = self._run(
            *("analyze", "--namespace", NAMESPACE),
            *("--output", "json", "--output-threshold", "Info"),
            *arguments,
        )
        if "adding files" in done.stderr or "Skipped analyzers" in done.stderr:
            raise subprocess.CalledProcessError(
                done.returncode, done.args, done.stdout, done.stderr
            )
        return [
            Finding(each["code"], each["level"], each["origin"], each["message"])
            for each in json.loads(done.stdout)
        ]

    def _run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._program, *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=_TIMEOUT_SECONDS,
            # It would look for a cluster's address there.
            env={"HOME": str(self._folder)},
        )

    def _write(self, name: str, manifests: Iterable[Manifest]) -> Path:
        file = self._folder / name
        file.write_text(yaml.dump_all(manifests, Dumper=_Plain), "utf-8")
        return file


def proxy_image(installation: Sequence[Manifest]) -> str:
    """The image of every proxy that this Istio starts."""
    values = json.loads(_settings(installation)["istio-sidecar-injector"]["values"])["global"]
    return f"{values['hub']}/{values['proxy']['image']}:{values['tag']}"


def _settings(installation: Sequence[Manifest]) -> Mapping[str, Mapping[str, str]]:
    """What istiod and its injector read, by the names of the ConfigMaps."""
    return {
        each["metadata"]["name"]: each["data"]
        for each in installation
        if each["kind"] == "ConfigMap"
    }
