"""Whether a manifest is one that a cluster would take: against the schemas of its kinds.

Kubernetes' own come with the package kubernetes-validate, those of custom resources are read from
their definitions. Rules in CEL, which a server has besides, are not looked at.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final, cast

import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource

from deploy.render import Manifest

# Those that the manifests are for; everything in them is in later ones, too.
RELEASE: Final = "1.34.0"
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_FREE: Final = "x-kubernetes-preserve-unknown-fields"

# It has no types, and by its name no stubs are asked for.
_utils: Final[Any] = import_module("kubernetes_validate.utils")
_Validator = Any


class Schemas:
    """Knows the kinds of Kubernetes, and those of the definitions that it is given."""

    def __init__(self, definitions: Iterable[Path]) -> None:
        self._custom: Final = dict(_definitions(definitions))
        self._folder: Final = f"kubernetes-json-schema/v{RELEASE}-local-strict"
        common: Any = Resource[Any].from_contents(_content(f"{self._folder}/_definitions.json"))
        self._common: Final[Any] = common @ Registry[Any]()
        self._validators: Final[dict[tuple[str, str], _Validator | None]] = {}

    def knows(self, manifest: Manifest) -> bool:
        """Whether there is a schema for its kind."""
        return self._validator(manifest) is not None

    def faults(self, manifest: Manifest) -> list[str]:
        """What is wrong with it, by the path in it; nothing for what is not known."""
        validator = self._validator(manifest)
        if validator is None:
            return []
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        return [
            f"{name}: {'.'.join(str(each) for each in error.absolute_path)}: {error.message}"
            for error in validator.iter_errors(manifest)
        ]

    def _validator(self, manifest: Manifest) -> _Validator | None:
        kind = manifest["apiVersion"], manifest["kind"]
        if kind not in self._validators:
            self._validators[kind] = self._made(*kind)
        return self._validators[kind]

    def _made(self, api: str, kind: str) -> _Validator | None:
        if (api, kind) in self._custom:
            return Draft202012Validator(self._custom[api, kind])
        group, _, version = api.rpartition("/")
        short = f"{group.split('.')[0]}-{version}" if group else version
        try:
            schema = _content(f"{self._folder}/{kind.lower()}-{short}.json")
        except FileNotFoundError:
            return None
        return Draft202012Validator(schema, registry=self._common)


def _content(name: str) -> Any:
    return _utils.schema_contents(name, RELEASE)


def _definitions(files: Iterable[Path]) -> Iterator[tuple[tuple[str, str], Any]]:
    for file in files:
        for each in yaml.load_all(file.read_text("utf-8"), _LOADER):
            if each:
                spec = each["spec"]
                for version in spec["versions"]:
                    api = f"{spec['group']}/{version['name']}"
                    schema = _closed(version["schema"]["openAPIV3Schema"])
                    # What every resource has, and definitions leave open.
                    schema["properties"] |= {
                        "apiVersion": {"type": "string"},
                        "kind": {"type": "string"},
                        "metadata": {"type": "object"},
                    }
                    yield (api, spec["names"]["kind"]), schema


def _closed(schema: Any) -> Any:
    """The schema, without room for fields that it does not name: a server would drop them."""
    if isinstance(schema, list):
        return [_closed(each) for each in cast(list[Any], schema)]
    if not isinstance(schema, Mapping):
        return schema
    own = cast(Mapping[str, Any], schema)
    closed: dict[str, Any] = {
        # Inside these the words are those of the schema's fields, and not of schemas.
        key: {name: _closed(each) for name, each in value.items()}
        if key == "properties"
        else _closed(value)
        for key, value in own.items()
        if key not in ("default", "enum", "example", "description")
    }
    if "enum" in own:
        closed["enum"] = own["enum"]
    is_open = own.get(_FREE) or "additionalProperties" in own
    if own.get("type") == "object" and "properties" in own and not is_open:
        closed["additionalProperties"] = False
    return closed
