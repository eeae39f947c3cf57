"""Renders the Kustomize folders of this repository.

It knows as much of Kustomize as they use, and refuses the rest, so that manifests are checked
where there is no `kustomize`. Where there is one, a test says that both make the same.
"""

import copy
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

import yaml

Manifest = dict[str, Any]

_FILE: Final = "kustomization.yaml"
# The one written in C, where there is one: ten times as fast.
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KNOWN: Final = frozenset(
    {
        "apiVersion",
        "kind",
        "resources",
        "components",
        "configMapGenerator",
        "namespace",
        "labels",
        "images",
        "patches",
    }
)
_HASH_LETTERS: Final = str.maketrans("013ae", "ghkmt")


class NotRendered(ValueError):
    """A folder asks for what is not known here, or for what is not there."""


def render(folder: Path) -> list[Manifest]:
    """What `kustomize build` makes of a folder, but for the order.

    Raises NotRendered for what it does not know, for patches that hit nothing, and for two
    resources of one name.
    """
    found = _folder(folder, [])
    seen: set[tuple[str, ...]] = set()
    for each in found:
        if key(each) in seen:
            raise NotRendered(f"{folder}: there are two of {' '.join(key(each))}")
        seen.add(key(each))
    return [_with_hashed_names(each, _hashed_names(found)) for each in found]


def key(manifest: Manifest) -> tuple[str, ...]:
    """What tells a resource from all others."""
    metadata = manifest["metadata"]
    return (
        manifest["apiVersion"],
        manifest["kind"],
        metadata.get("namespace", ""),
        metadata["name"],
    )


def _folder(folder: Path, so_far: list[Manifest]) -> list[Manifest]:
    """With what a component is put onto, `so_far`."""
    settings = _read(folder / _FILE)[0]
    if unknown := settings.keys() - _KNOWN:
        raise NotRendered(f"{folder / _FILE}: {', '.join(sorted(unknown))} is not known here")
    found = so_far
    for name in settings.get("resources", ()):
        path = folder / name
        found = [*found, *(_folder(path, []) if path.is_dir() else _read(path))]
    for each in settings.get("configMapGenerator", ()):
        found = [*found, _config_map(folder, each)]
    for name in settings.get("components", ()):
        found = _folder(folder / name, found)
    for each in settings.get("patches", ()):
        _patch(found, each, folder)
    for manifest in found:
        _set_labels(manifest, settings.get("labels", ()))
        _set_images(manifest, settings.get("images", ()))
        if "namespace" in settings and manifest["kind"] not in ("Namespace", "PriorityClass"):
            manifest["metadata"]["namespace"] = settings["namespace"]
    return found


def _read(path: Path) -> list[Any]:
    try:
        return [each for each in yaml.load_all(path.read_text("utf-8"), _LOADER) if each]
    except OSError as error:
        raise NotRendered(f"{path}: {error.strerror}") from error


def _config_map(folder: Path, settings: Mapping[str, Any]) -> Manifest:
    data = dict[str, str]()
    for each in settings["files"]:
        name, _, file = each.rpartition("=")
        data[name or Path(file).name] = (folder / file).read_text("utf-8")
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": settings["name"], "annotations": {"generated": "true"}},
        "data": data,
    }


def _hashed_names(manifests: Iterable[Manifest]) -> dict[str, str]:
    """The names of generated ConfigMaps, which change with their content so that pods do."""
    return {
        each["metadata"]["name"]: f"{each['metadata']['name']}-{_digest(each)}"
        for each in manifests
        if each["metadata"].get("annotations", {}).get("generated")
    }


def _digest(config_map: Manifest) -> str:
    # Kustomize does not look at the name.
    content = {"kind": "ConfigMap", "name": "", "data": config_map["data"]}
    written = json.dumps(content, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    for letter in "<>&":  # as Go writes JSON
        written = written.replace(letter, f"\\u{ord(letter):04x}")
    digest = hashlib.sha256(written.encode()).hexdigest()[:10]
    return digest.translate(_HASH_LETTERS)


def _with_hashed_names(manifest: Manifest, names: Mapping[str, str]) -> Manifest:
    changed = copy.deepcopy(manifest)
    if changed["metadata"].get("annotations", {}).pop("generated", None):
        changed["metadata"]["name"] = names[changed["metadata"]["name"]]
        if not changed["metadata"]["annotations"]:
            del changed["metadata"]["annotations"]
    for pod in pods(changed):
        for volume in pod.get("volumes", ()):
            if name := names.get(volume.get("configMap", {}).get("name", "")):
                volume["configMap"]["name"] = name
    return changed


def pods(manifest: Manifest) -> Iterator[dict[str, Any]]:
    """The pod that a workload makes, if it is one."""
    template = manifest.get("spec", {}).get("template")
    if manifest["kind"] in ("Deployment", "StatefulSet", "DaemonSet", "Job") and template:
        yield template["spec"]


def _set_labels(manifest: Manifest, labels: Iterable[Mapping[str, Any]]) -> None:
    for each in labels:
        if each.get("includeSelectors"):
            raise NotRendered("labels with includeSelectors are not known here")
        manifest["metadata"].setdefault("labels", {}).update(each["pairs"])
        if each.get("includeTemplates"):
            for _ in pods(manifest):
                for made in _templates(manifest["spec"]):
                    made["metadata"].setdefault("labels", {}).update(each["pairs"])


def _templates(spec: Mapping[str, Any]) -> list[Any]:
    return [spec["template"], *spec.get("volumeClaimTemplates", ())]


def _set_images(manifest: Manifest, images: Iterable[Mapping[str, Any]]) -> None:
    for pod in pods(manifest):
        for container in [*pod.get("initContainers", ()), *pod["containers"]]:
            name = container["image"].partition("@")[0].rpartition(":")[0]
            for each in images:
                if each["name"] == name:
                    container["image"] = _image(each)


def _image(settings: Mapping[str, Any]) -> str:
    name = settings.get("newName", settings["name"])
    if digest := settings.get("digest"):
        return f"{name}@{digest}"
    return f"{name}:{settings['newTag']}"


def _patch(manifests: list[Manifest], settings: Mapping[str, Any], folder: Path) -> None:
    target = settings["target"]
    operations = (
        yaml.safe_load(settings["patch"])
        if "patch" in settings
        else _read(folder / settings["path"])[0]
    )
    hit = [
        each
        for each in manifests
        if each["kind"] == target["kind"]
        and target.get("name", each["metadata"]["name"]) == each["metadata"]["name"]
    ]
    if not hit:
        raise NotRendered(f"{folder}: a patch for {target} hits nothing")
    for manifest in hit:
        for operation in operations:
            _apply(manifest, operation, folder)


def _apply(manifest: Manifest, operation: Mapping[str, Any], folder: Path) -> None:
    """One operation of RFC 6902; Kustomize has the others, too."""
    *way, last = [
        each.replace("~1", "/").replace("~0", "~") for each in operation["path"].split("/")[1:]
    ]
    at: Any = manifest
    for step in way:
        at = at[int(step) if isinstance(at, list) else step]
    op, value = operation["op"], copy.deepcopy(operation.get("value"))
    if op == "add" and isinstance(at, list):
        into = cast(list[Any], at)
        into.insert(len(into) if last == "-" else int(last), value)
    elif op == "remove":
        del at[int(last) if isinstance(at, list) else last]
    elif op in ("add", "replace"):
        spot = int(last) if isinstance(at, list) else last
        if op == "replace":
            at[spot]  # what is not there cannot be replaced
        at[spot] = value
    else:
        raise NotRendered(f"{folder}: the operation {op} is not known here")
