"""Tests of the renderer of Kustomize folders."""

import shutil
import subprocess
from pathlib import Path
from textwrap import dedent
from typing import Final

import pytest
import yaml

from deploy.overlays import NAMES
from deploy.render import NotRendered, key, render
from meshtest.child_server import binary
from tier.binaries import repository_root

_TIMEOUT_SECONDS: Final = 120.0
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_POD = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: desk}
spec:
  template:
    metadata: {}
    spec:
      containers: [{name: desk, image: "desk:1.0.0"}]
      volumes: [{name: settings, configMap: {name: desk-settings}}]
"""


def _folder(path: Path, text: str, **files: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "kustomization.yaml").write_text(dedent(text))
    for name, content in files.items():
        (path / f"{name}.yaml").write_text(content)
    return path


def test_a_folder_is_its_resources_with_labels_images_and_patches(tmp_path: Path) -> None:
    """What an overlay says is done to what its bases have."""
    _folder(tmp_path / "base", "resources: [pod.yaml]\nnamespace: office", pod=_POD)
    text = """\
        resources: [../base]
        labels: [{pairs: {part: mesh}, includeTemplates: true}]
        images: [{name: desk, newName: house/desk, newTag: 2.0.0}]
        patches:
          - target: {kind: Deployment, name: desk}
            patch: |
              - {op: add, path: /spec/template/spec/containers/0/env, value: [{name: A, value: a}]}
              - {op: add, path: /spec/template/spec/containers/0/env/-, value: {name: B, value: b}}
              - {op: remove, path: /spec/template/spec/volumes/0}
        """
    (made,) = render(_folder(tmp_path / "over", text))
    assert made["metadata"] == {"name": "desk", "namespace": "office", "labels": {"part": "mesh"}}
    assert made["spec"]["template"] == {
        "metadata": {"labels": {"part": "mesh"}},
        "spec": {
            "containers": [
                {
                    "name": "desk",
                    "image": "house/desk:2.0.0",
                    "env": [{"name": "A", "value": "a"}, {"name": "B", "value": "b"}],
                }
            ],
            "volumes": [],
        },
    }


def test_a_generated_config_map_is_named_by_its_content(tmp_path: Path) -> None:
    """Pods refer to it by that name, so that another content makes other pods."""
    text = """\
        resources: [pod.yaml]
        configMapGenerator: [{name: desk-settings, files: [settings.yaml=own.yaml]}]
        """
    folder = _folder(tmp_path, text, pod=_POD, own="drawer: <1>\n")
    pod, config_map = render(folder)
    name = config_map["metadata"]["name"]
    assert name.startswith("desk-settings-")
    assert pod["spec"]["template"]["spec"]["volumes"][0]["configMap"]["name"] == name
    (folder / "own.yaml").write_text("drawer: 2\n")
    assert render(folder)[1]["metadata"]["name"] != name


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("helmCharts: []\nresources: [pod.yaml]", "helmCharts is not known here"),
        ("resources: [nothing.yaml]", "nothing.yaml: No such file or directory"),
        ("resources: [pod.yaml, pod.yaml]", "there are two of apps/v1 Deployment  desk"),
        (
            "resources: [pod.yaml]\npatches: [{target: {kind: Job, name: chair}, patch: '[]'}]",
            "hits nothing",
        ),
        (
            "resources: [pod.yaml]\n"
            "patches: [{target: {kind: Deployment}, patch: '[{op: move, path: /a}]'}]",
            "the operation move is not known here",
        ),
    ],
)
def test_what_is_not_known_is_refused(tmp_path: Path, text: str, wrong: str) -> None:
    """Nothing is left out in silence."""
    with pytest.raises(NotRendered, match=wrong):
        render(_folder(tmp_path, text, pod=_POD))


@pytest.fixture(name="mesh", scope="module")
def _mesh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: Kustomize follows no links out of a folder, and links are what a test has."""
    copy = tmp_path_factory.mktemp("mesh")
    for name in ("istio", "kubernetes"):
        shutil.copytree(repository_root() / "mesh" / name, copy / name)
    return copy


def _compare(folder: Path) -> None:
    made = subprocess.run(
        [binary("KUSTOMIZE"), "build", folder],
        capture_output=True,
        text=True,
        check=True,
        timeout=_TIMEOUT_SECONDS,
    )
    theirs = list(yaml.load_all(made.stdout, _LOADER))
    ours = render(folder)
    assert len(theirs) == len(ours)
    assert {key(each): each for each in ours} == {key(each): each for each in theirs}


@pytest.mark.parametrize("name", NAMES)
def test_kustomize_makes_the_same(mesh: Path, name: str) -> None:
    """Each overlay is for Kustomize what it is for the checks, digit by digit."""
    _compare(mesh / "kubernetes/overlays" / name)


@pytest.mark.parametrize(("load", "istio"), [(50, ""), (50, "ambient"), (100000, "sidecar")])
def test_kustomize_makes_the_same_of_components(mesh: Path, load: int, istio: str) -> None:
    """What no overlay puts together: other ways to have Istio, or none, with a pool of GPUs."""
    components = [f"../../components/{each}" for each in (f"load-{load}", "gpu", "inference-pool")]
    components += [f"../../../istio/{each}" for each in istio.split()]
    text = f"resources: [../../base]\ncomponents: [{', '.join(components)}]\n"
    name = f"{load}-{istio.replace(' ', '-')}"
    _compare(_folder(mesh / "kubernetes/overlays" / name, text))


def test_kustomize_makes_the_same_of_an_overlay_of_ones_own(mesh: Path) -> None:
    """As docs/operations.md says how to write it: images by digest, a host, an issuer of tokens."""
    text = f"""\
        resources: [../production]
        images:
          - name: agentmesh/coordinator
            newName: registry.example.com/agentmesh/coordinator
            digest: sha256:{"0" * 64}
        patches:
          - target: {{kind: Gateway, name: gateway}}
            patch: |
              - {{op: replace, path: /spec/listeners/0/hostname, value: agents.example.com}}
          - target: {{kind: RequestAuthentication, name: tokens}}
            patch: |
              - {{op: replace, path: /spec/jwtRules/0/issuer, value: "https://example.com"}}
        """
    _compare(_folder(mesh / "kubernetes/overlays/own", text))
