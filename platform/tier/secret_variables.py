"""Secrets of the environment: each process is given those that its settings name, and no other."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, cast

from services.reasoning.model_variables import MODEL_VARIABLES

# How names of variables tell that a value is not for everybody.
_SECRET: Final = re.compile(
    r"^(OPENAI|ANTHROPIC)_|(KEY|TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?)S?$",
    re.IGNORECASE,
)
# Read without a setting that names them: those of models, and of the library of PostgreSQL.
_READ: Final[Mapping[str, tuple[str, ...]]] = {
    "reasoning": MODEL_VARIABLES,
    "coordinator": ("PGPASSWORD",),
    "governor": ("PGPASSWORD",),
}


def secrets(environ: Iterable[str]) -> frozenset[str]:
    """The variables, of those given, that are withheld from whoever does not name them."""
    return frozenset(each for each in environ if _SECRET.search(each))


def secrets_of(part: str, section: object, environ: Iterable[str]) -> frozenset[str]:
    """The variables that a part is given: those that its settings name by a value, or it reads."""
    named = {*_texts(section), *_READ.get(part, ())}
    return frozenset(each for each in environ if each in named)


def _texts(value: object) -> Iterator[str]:
    """All texts in a section, however deep."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in cast(Mapping[Any, object], value).values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in cast(list[object], value):
            yield from _texts(each)
