"""An agent as a document that people write, read and keep beside their code: YAML, or JSON."""

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import yaml
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from agentmesh.coordinator.v1.agent_service_pb2 import Agent
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec
from cli.choices import LANES, PATTERNS, TIERS
from cli.problem import Problem

_WORDS: Final[Mapping[str, Mapping[str, int]]] = {
    "agentmesh.common.v1.Lane": LANES,
    "agentmesh.common.v1.ModelTier": TIERS,
    "agentmesh.coordinator.v1.AgentPattern": PATTERNS,
}
# Beside the fields of the contract's AgentSpec; its `name` is made of the id.
_ID: Final = "id"
_ETAG: Final = "etag"
_NOT_WRITTEN: Final = ("name",)
# Written as a mapping, and a text in the contract.
_SCHEMA: Final = "output_schema"


@dataclass(frozen=True, slots=True)
class AgentDocument:
    """What a document says."""

    spec: AgentSpec
    # Empty where it does not say.
    agent_id: str = ""
    etag: str = ""


class _WrongError(Exception):
    """What is wrong at a place of a document."""

    def __init__(self, node: Node, message: str, remedy: str = "") -> None:
        super().__init__(message)
        # Counted from 0.
        self.line = node.start_mark.line + 1
        self.remedy = remedy


def from_text(text: str, where: str) -> AgentDocument:
    """The agent that a document describes.

    Raises:
        Problem: It is no such document; with the line, and with what may have been
            meant. What the values may be, the mesh says.
    """
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if not isinstance(root, MappingNode):
            raise Problem(
                f"{where}: is no agent.", "Begin with what `agentmesh agent example` prints."
            )
        return _document(loader, root)
    except yaml.YAMLError as error:
        raise Problem(f"{where}: is no YAML: {' '.join(str(error).split())}.") from None
    except _WrongError as error:
        raise Problem(f"{where}:{error.line}: {error}.", error.remedy) from None
    finally:
        loader.dispose()


def to_yaml(agent: Agent) -> str:
    """The document of an agent, as `agent update --file` takes it."""
    document: dict[str, Any] = {_ID: agent.name.rpartition("/")[2]}
    document.update(_plain(agent.spec))
    if not agent.built_in:
        document[_ETAG] = agent.etag
    yaml_text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return yaml_text.rstrip("\n")


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks."""


def _text(dumper: yaml.SafeDumper, text: str) -> ScalarNode:
    represent = cast(Callable[..., ScalarNode], dumper.represent_scalar)  # pyright: ignore[reportUnknownMemberType]
    return represent("tag:yaml.org,2002:str", text, style="|" if "\n" in text else "")


_Dumper.add_representer(str, _text)


def _document(loader: yaml.SafeLoader, root: MappingNode) -> AgentDocument:
    spec = AgentSpec()
    beside = {_ID: "", _ETAG: ""}
    known = [_ID, *_fields(spec), _ETAG]
    for key, node in _items(root, "", known).items():
        if key in beside:
            beside[key] = _string(loader, node, key)
        else:
            _set(loader, spec, _fields(spec)[key], node, key)
    return AgentDocument(spec, beside[_ID], beside[_ETAG])


def _items(mapping: MappingNode, path: str, known: Sequence[str]) -> Mapping[str, Node]:
    """The values by their keys, each of which is known and comes once."""
    found: dict[str, Node] = {}
    for key_node, value in cast(Sequence[tuple[Node, Node]], mapping.value):
        key = str(key_node.value) if isinstance(key_node, ScalarNode) else "?"
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
            remedy = f"Did you mean {close[0]}? " if close else ""
            raise _WrongError(
                key_node, f"{path}{key} is not known", f"{remedy}Known are {', '.join(known)}."
            )
        if key in found:
            raise _WrongError(key_node, f"{path}{key} is given twice")
        found[key] = value
    return found


def _set(
    loader: yaml.SafeLoader, message: Message, field: FieldDescriptor, node: Node, path: str
) -> None:
    if field.name == _SCHEMA:
        message.output_schema = _schema(loader, node)  # type: ignore[attr-defined]
    elif field.message_type is not None:
        inner: Message = getattr(message, field.name)
        if not isinstance(node, MappingNode):
            raise _WrongError(node, f"{path} must be a mapping")
        inner.SetInParent()
        for key, value in _items(node, f"{path}.", list(_fields(inner))).items():
            _set(loader, inner, _fields(inner)[key], value, f"{path}.{key}")
    elif field.is_repeated:
        if not isinstance(node, SequenceNode):
            raise _WrongError(node, f"{path} must be a list, such as [{field.name.rstrip('s')}]")
        values = [
            _string(loader, each, f"{path}[{index}]")
            for index, each in enumerate(cast(Sequence[Node], node.value))
        ]
        getattr(message, field.name).extend(values)
    elif field.enum_type is not None:
        words = _WORDS[field.enum_type.full_name]
        word = _string(loader, node, path).lower().replace("_", "-")
        if word not in words:
            raise _WrongError(node, f"{path} must be one of {', '.join(words)}, not {word}")
        setattr(message, field.name, words[word])
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        setattr(message, field.name, _string(loader, node, path))
    else:
        _set_plain(loader, message, field, node, path)


def _set_plain(
    loader: yaml.SafeLoader, message: Message, field: FieldDescriptor, node: Node, path: str
) -> None:
    value = _value(loader, node)
    is_flag = field.cpp_type == FieldDescriptor.CPPTYPE_BOOL
    if isinstance(value, bool) is not is_flag or not isinstance(value, int):
        wanted = "true or false" if is_flag else "a whole number"
        raise _WrongError(node, f"{path} must be {wanted}, not {value!r}")
    try:
        setattr(message, field.name, value)
    except ValueError:
        raise _WrongError(node, f"{path} is too large: {value}") from None


def _schema(loader: yaml.SafeLoader, node: Node) -> str:
    value = _value(loader, node)
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise _WrongError(node, f"{_SCHEMA} must be a JSON Schema: a mapping, or JSON as text")
    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise _WrongError(node, f"{_SCHEMA} must be JSON: {error}") from None


def _string(loader: yaml.SafeLoader, node: Node, path: str) -> str:
    value = _value(loader, node)
    if not isinstance(value, str):
        raise _WrongError(node, f"{path} must be text, not {value!r}", "Put it in quotes.")
    return value


def _value(loader: yaml.SafeLoader, node: Node) -> Any:
    return loader.construct_object(node, deep=True)  # type: ignore[no-untyped-call]


def _plain(message: Message) -> dict[str, Any]:
    """What is set, choices as words."""
    plain: dict[str, Any] = {}
    for name, field in _fields(message).items():
        value: Any = getattr(message, name)
        if field.message_type is not None:
            if message.HasField(name):
                plain[name] = _plain(value)
        elif field.is_repeated:
            if value:
                plain[name] = list(value)
        elif field.enum_type is not None:
            if value:
                words = _WORDS[field.enum_type.full_name].items()
                plain[name] = next(word for word, number in words if number == value)
        elif name == _SCHEMA and value:
            plain[name] = json.loads(value)
        elif value:
            plain[name] = value
    return plain


def _fields(message: Message) -> Mapping[str, FieldDescriptor]:
    fields = cast(Descriptor, message.DESCRIPTOR).fields_by_name
    return {name: field for name, field in fields.items() if name not in _NOT_WRITTEN}
