"""Settings: a YAML file and `AGENTMESH_` variables, checked before anything starts."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Final, TypeVar, Union, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

PREFIX: Final = "AGENTMESH_"
SEPARATOR: Final = "__"

# What YAML fails with at a date that the calendar does not have, at a tag over what is nothing of
# the kind, and at lists in each other without end.
_UNREADABLE: Final = (ValueError, LookupError, AttributeError, RecursionError)

_Path = tuple[str, ...]
S = TypeVar("S", bound="MeshSettings")


class ConfigError(Exception):
    """A setting is wrong. The text is one line: where, which key, what is expected."""


class MeshSettings(BaseSettings):
    """Base of every settings class. Unknown keys are refused."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, validate_default=True)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what it is given: `load` reads the file and the environment it is handed."""
        return (init_settings,)


def load(cls: type[S], *, path: Path | None, environ: Mapping[str, str]) -> S:
    """The settings in the file, overridden by those in the environment.

    A nested key is written with two underscores: `AGENTMESH_REDIS__URL`.
    Raises ConfigError for the first thing that is wrong.
    """
    values: dict[str, Any] = _read(path) if path else {}
    origins: dict[_Path, str] = {}
    for variable in sorted(environ):
        if variable.startswith(PREFIX):
            keys = _keys(variable)
            _check_known(cls, keys, variable)
            _put(values, keys, _parse(environ[variable]), variable)
            origins[keys] = variable
    try:
        return cls(**values)
    except ValidationError as error:
        raise ConfigError(_describe(cls, error, path, origins)) from None


def _read(path: Path) -> dict[str, Any]:
    try:
        content: Any = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {cause}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "malformed"
        raise ConfigError(f"{path}{where}: is not YAML: {problem}") from None
    except _UNREADABLE:
        # Which one is not said: it may be a secret.
        raise ConfigError(f"{path}: holds a value that cannot be read") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: expected keys with values at the top")
    return cast(dict[str, Any], content)


def _keys(variable: str) -> _Path:
    return tuple(variable.removeprefix(PREFIX).lower().split(SEPARATOR))


def _check_known(cls: type[BaseModel], keys: _Path, variable: str) -> None:
    model: type[BaseModel] | None = cls
    for depth, key in enumerate(keys):
        if model is None:
            return  # inside a mapping or a union: the validation decides
        field = model.model_fields.get(key)
        if field is None:
            known = [
                PREFIX + SEPARATOR.join((*keys[:depth], each)).upper()
                for each in model.model_fields
            ]
            raise ConfigError(f"environment: {variable} is no setting{_nearest(variable, known)}")
        model = _model_in(field.annotation)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The model that a field holds, through Annotated and `| None`; None for anything else."""
    if get_origin(annotation) is Annotated:
        return _model_in(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        inner = [each for each in get_args(annotation) if each is not type(None)]
        return _model_in(inner[0]) if len(inner) == 1 else None
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None


def _parse(text: str) -> Any:
    """Text stays text, which pydantic converts; lists and mappings are written as YAML."""
    if text[:1] in ("[", "{"):
        try:
            return yaml.safe_load(text)
        except (yaml.YAMLError, *_UNREADABLE):
            return text
    return text


def _put(values: dict[str, Any], keys: _Path, value: Any, variable: str) -> None:
    for key in keys[:-1]:
        inner = values.setdefault(key, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"environment: {variable}: {key} holds a single value in the file")
        values = cast(dict[str, Any], inner)
    values[keys[-1]] = value


def _describe(
    cls: type[BaseModel], error: ValidationError, path: Path | None, origins: Mapping[_Path, str]
) -> str:
    first = error.errors(include_url=False)[0]
    keys = tuple(str(each) for each in first["loc"])
    variable = next(
        (origins[k] for k in (keys[:n] for n in range(len(keys), 0, -1)) if k in origins), None
    )
    where = f"environment: {variable}" if variable else f"{path or 'settings'}: {'.'.join(keys)}"
    if first["type"] == "extra_forbidden":
        model: type[BaseModel] | None = cls
        for key in keys[:-1]:
            field = model.model_fields.get(key) if model else None
            model = _model_in(field.annotation) if field else None
        known = list(model.model_fields) if model else []
        return f"{where} is no setting{_nearest(keys[-1], known)}"
    if first["type"] == "missing":
        name = PREFIX + SEPARATOR.join(keys).upper()
        return f"{where} is missing (in the file, or as {name})"
    message = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    given = first.get("input")
    shown = f", not {given!r}" if isinstance(given, str | int | float | bool) else ""
    # An address may hold a password, also where none belongs.
    is_address_with_user = isinstance(given, str) and "://" in given and "@" in given
    if is_address_with_user or any(each in keys[-1] for each in ("secret", "key", "password")):
        shown = ""
    return f"{where}: {message}{shown}"


def _nearest(key: str, known: list[str]) -> str:
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]}?"
    return f"; known are {', '.join(sorted(known))}" if known else ""
