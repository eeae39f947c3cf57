"""The queue policy as a document that people read, edit and compare."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, cast

import yaml
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import Message

from agentmesh.coordinator.v1.queue_service_pb2 import QueuePolicy
from cli.choices import LANES, TIERS
from cli.duration import duration_text, parse_duration
from cli.problem import Problem

_DURATION: Final = "google.protobuf.Duration"
# That the contract can carry; what a mesh allows, it says itself.
_LONGEST_SECONDS: Final = 315_576_000_000.0
_WHOLE: Final = frozenset({FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64})
# The words of each enumeration, and what the contract's own names for them begin with.
_WORDS: Final[Mapping[str, tuple[Mapping[str, int], str]]] = {
    "agentmesh.common.v1.Lane": (LANES, "lane_"),
    "agentmesh.common.v1.ModelTier": (TIERS, "model_tier_"),
}
# An empty list of choices is no restriction.
_NO_CHOICE: Final = ("", "all", "none")
_BOOLEANS: Final = {
    **dict.fromkeys(("true", "yes", "on"), True),
    **dict.fromkeys(("false", "no", "off"), False),
}
# What of YAML's own readings is left: nothing, and what `<<` takes over.
_READ: Final = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
# What tells one entry of a list from the others.
_KEYS: Final = {"lanes": "lane", "tenant_tiers": "id"}
_HEAD: Final = """\
# How tasks are queued and run. Change it and put it in force with
# `agentmesh queue apply FILE`; times are such as 500ms, 30s or 7d.
"""


class _Loader(yaml.SafeLoader):
    """Leaves values as they are written: the contract says what they are.

    To YAML a tenant `no` is a truth value, one of the name 010 is 8, and of a key that stands
    twice the last one holds.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping in `node`. A key that `<<` brought along may be given again."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"{key.value} is given twice", key.start_mark
                    )
                seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] in _READ]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def to_yaml(policy: QueuePolicy) -> str:
    """The document of `policy`."""
    text = yaml.safe_dump(_document(policy), sort_keys=False, allow_unicode=True)
    return _HEAD + text.rstrip("\n")


def from_text(text: str, where: str) -> QueuePolicy:
    """The policy that a document describes: YAML as of `to_yaml`, or JSON.

    Raises:
        Problem: It is no such document. What the limits may be, the mesh says.
    """
    try:
        value: Any = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise Problem(f"{where}: is no YAML: {' '.join(str(error).split())}.") from None
    except (ValueError, LookupError, AttributeError, RecursionError):
        # Of tags over what is nothing of the kind, and of depths without end.
        raise Problem(f"{where}: holds what cannot be read.") from None
    if not isinstance(value, dict):
        raise Problem(f"{where}: is no policy.", "Begin with what `agentmesh queue policy` prints.")
    policy = QueuePolicy()
    try:
        _fill(policy, cast(Mapping[Any, Any], value), "")
    except ValueError as error:
        raise Problem(f"{where}: {error}.") from None
    return policy


def change(message: Message, settings: Mapping[str, str]) -> None:
    """Sets fields of a lane or tier; Problem for what they do not have or cannot be."""
    for key, value in settings.items():
        field = _fields(message).get(key)
        known = [name for name in _fields(message) if name not in _KEYS.values()]
        if field is None or key not in known:
            raise Problem(f"There is no setting {key!r}; there are {', '.join(known)}.")
        try:
            _set(message, field, value, key)
        except ValueError as error:
            raise Problem(f"{error}.") from None


def difference(before: QueuePolicy, after: QueuePolicy) -> list[str]:
    """A line for each setting that differs; the etag is none."""
    old, new = dict(_flat(_document(before))), dict(_flat(_document(after)))
    lines: list[str] = []
    for path in dict.fromkeys([*old, *new]):
        if path == "etag" or old.get(path) == new.get(path):
            continue
        if path not in new:
            lines.append(f"- {path}: {old[path]}")
        elif path not in old:
            lines.append(f"+ {path}: {new[path]}")
        else:
            lines.append(f"~ {path}: {old[path]} → {new[path]}")
    return lines


def _document(message: Message) -> dict[str, Any]:
    """Every field that is set or has a plain value, choices as words and times with units."""
    document: dict[str, Any] = {}
    for field in _fields(message).values():
        value: Any = getattr(message, field.name)
        if _is_map(field):
            document[field.name] = dict(sorted(value.items()))
        elif field.is_repeated and field.enum_type is not None:
            document[field.name] = [_word(field.enum_type, each) for each in value]
        elif field.is_repeated:
            document[field.name] = [_document(each) for each in value]
        elif _is_duration(field):
            if message.HasField(field.name):
                document[field.name] = duration_text(value.ToNanoseconds())
        elif field.enum_type is not None:
            document[field.name] = _word(field.enum_type, value)
        elif isinstance(value, float) and value.is_integer():
            document[field.name] = int(value)
        else:
            document[field.name] = value
    return document


def _flat(value: Any, path: str = "", key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, each in cast(dict[str, Any], value).items():
            if name != key:
                yield from _flat(each, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and path not in _KEYS:
        yield path, ", ".join(map(str, cast(list[Any], value))) or "all"
    elif isinstance(value, list):
        key = _KEYS[path]
        for each in cast(list[dict[str, Any]], value):
            # So that an entry without settings is one, too.
            yield f"{path}.{each[key]}", "there"
            yield from _flat(each, f"{path}.{each[key]}", key)
    else:
        yield path, str(value)


def _fill(message: Message, values: Mapping[Any, Any], path: str) -> None:
    """Raises ValueError for what does not fit the contract."""
    for key, value in values.items():
        field = _fields(message).get(str(key))
        if field is None:
            raise ValueError(f"{path}{key} is not known; known are {', '.join(_fields(message))}")
        if field.is_repeated:
            _fill_many(message, field, value, f"{path}{key}")
        else:
            _set(message, field, value, f"{path}{key}")


def _fill_many(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    target: Any = getattr(message, field.name)
    if _is_map(field):
        if not isinstance(value or {}, dict):
            raise ValueError(f"{path} must be a mapping")
        for name, each in cast(Mapping[Any, Any], value or {}).items():
            target[str(name)] = str(each)
        return
    if not isinstance(value, list):
        raise ValueError(f"{path} must be a list")
    kind = field.enum_type
    if kind is not None:
        target.extend(_number(kind, each, path) for each in cast(Sequence[Any], value))
        return
    for number, each in enumerate(cast(Sequence[Any], value)):
        if not isinstance(each, dict):
            raise ValueError(f"{path}[{number}] must be a mapping")
        _fill(target.add(), cast(Mapping[Any, Any], each), f"{path}[{number}].")


def _set(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    """Sets a single field, from what YAML says or from text; ValueError where it does not fit."""
    if _is_duration(field):
        _set_duration(message, field, value, path)
    elif field.is_repeated and field.enum_type is not None:
        kind = field.enum_type
        # A word or several as text; a document has a list.
        words = [] if value in _NO_CHOICE else str(value).split(",")
        message.ClearField(field.name)
        getattr(message, field.name).extend(_number(kind, each.strip(), path) for each in words)
    elif field.enum_type is not None:
        setattr(message, field.name, _number(field.enum_type, value, path))
    elif field.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        if str(value).lower() not in _BOOLEANS:
            raise ValueError(f"{path} must be true or false, not {value!r}")
        setattr(message, field.name, _BOOLEANS[str(value).lower()])
    elif field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        setattr(message, field.name, str(value))
    else:
        whole = field.cpp_type in _WHOLE
        kind = "a whole number" if whole else "a number"
        try:
            setattr(message, field.name, int(str(value)) if whole else float(value))
        except (TypeError, ValueError):
            raise ValueError(f"{path} must be {kind}, not {value!r}") from None


def _word(kind: EnumDescriptor, number: int) -> str | int:
    words, _ = _WORDS[kind.full_name]
    return next((word for word, each in words.items() if each == number), number)


def _number(kind: EnumDescriptor, value: Any, path: str) -> int:
    words, prefix = _WORDS[kind.full_name]
    word = str(value).lower().removeprefix(prefix)
    if word not in words:
        raise ValueError(f"{path} must be one of {', '.join(words)}, not {value!r}")
    return words[word]


def _set_duration(message: Message, field: FieldDescriptor, value: Any, path: str) -> None:
    if value is None or value == "none":
        message.ClearField(field.name)
        return
    seconds = parse_duration(str(value))
    if seconds is None or seconds > _LONGEST_SECONDS:
        raise ValueError(f"{path} must be a time such as 500ms, 30s or 7d, not {value!r}")
    getattr(message, field.name).FromNanoseconds(round(seconds * 1e9))


def _fields(message: Message) -> Mapping[str, FieldDescriptor]:
    return cast(Descriptor, message.DESCRIPTOR).fields_by_name


def _is_duration(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.full_name == _DURATION


def _is_map(field: FieldDescriptor) -> bool:
    return field.message_type is not None and field.message_type.GetOptions().map_entry
