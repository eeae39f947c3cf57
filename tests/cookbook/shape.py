"""What a command prints, held against what a page says that it prints.

The page shows JSON, one document after another, or lines of text. In both,

- `<time>`, `<number>`, `<id>` and `<text>` stand for something of that kind,
- `<TASK>` for what a reader keeps under that name: the same wherever it stands,
- `...` as a line, as the last member of a list or as a member of an object, for more.

An error is text from its first line, `ERROR:`, on. How the answers to a batch are spread over
messages is left to chance: they count as one list, in the order of their indexes.
"""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, Final, cast

_MORE: Final = "..."
_PLACEHOLDER: Final = re.compile(r"<([a-z]+|[A-Z][A-Z_]*)>")
_KINDS: Final = {
    "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z",
    "number": r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?",
    "id": r"[A-Za-z0-9_-]+",
    "text": r".*",
}
_KEPT: Final = r"[^\s\"]+"
_ERROR: Final = "ERROR:"
# By grpcurl's names; it ends with 64 and the status code.
_CODES: Final = {
    "Canceled": 1,
    "InvalidArgument": 3,
    "DeadlineExceeded": 4,
    "NotFound": 5,
    "AlreadyExists": 6,
    "PermissionDenied": 7,
    "ResourceExhausted": 8,
    "FailedPrecondition": 9,
    "Aborted": 10,
    "Unimplemented": 12,
    "Unavailable": 14,
    "Unauthenticated": 16,
}
_FIRST_CODE: Final = 64


class Differs(AssertionError):
    """What is printed is not what the page says."""


def exit_code(expected: str) -> int:
    """How a command ends of which the page says that it prints this."""
    if found := re.search(r"^ERROR:\n\s+Code: (\w+)$", expected, re.M):
        return _FIRST_CODE + _CODES[found[1]]
    # It could not even ask what there is.
    if expected.startswith("Error invoking "):
        return 1
    documents, _ = _parsed(expected)
    if len(documents) == 1 and isinstance(documents[0], dict):
        code = cast(dict[str, Any], documents[0]).get("code")
        return _FIRST_CODE + code if isinstance(code, int) else 0
    return 0


def match(expected: str, printed: str, kept: Mapping[str, str]) -> dict[str, str]:
    """What the reader keeps of `printed`, by name, besides what is `kept` already.

    Raises:
        Differs: It has another shape.
    """
    shape = _Shape(dict(kept))
    (wanted, wanted_text), (found, found_text) = _parsed(expected), _parsed(printed)
    if wanted or found:
        shape.sequence(wanted, found, "output")
    shape.sequence(wanted_text, found_text, "line")
    return shape.kept


def _parsed(output: str) -> tuple[list[Any], list[str]]:
    """Documents of JSON, and the lines of text after them."""
    if not output.lstrip().startswith(("{", f"{_MORE}\n{{")):
        return [], _lines(output)
    head, error, tail = output.partition(_ERROR)
    documents: list[Any] = []
    decoder = json.JSONDecoder()
    rest = head.lstrip()
    while rest:
        if rest.startswith(_MORE):
            documents.append(_MORE)
            rest = rest[len(_MORE) :].lstrip()
            continue
        document, end = decoder.raw_decode(rest)
        documents.append(document)
        rest = rest[end:].lstrip()
    return _batched(documents), _lines(error + tail)


def _batched(documents: list[Any]) -> list[Any]:
    results: list[Any] = []
    for each in documents:
        if list(each) != ["results"] or not all("index" in one for one in each["results"]):
            return documents
        results.extend(each["results"])
    ordered = sorted(results, key=lambda one: int(one["index"]))
    return [{"results": ordered}] if results else documents


def _lines(text: str) -> list[str]:
    # How wide JSON is indented in an error's details differs from call to call.
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


class _Shape:
    """Compares, and keeps what is named."""

    def __init__(self, kept: dict[str, str]) -> None:
        self.kept: Final = kept

    def value(self, expected: Any, found: Any, path: str) -> None:
        if isinstance(expected, str) and isinstance(found, str | int | float):
            self._text(expected, str(found), path)
        elif isinstance(expected, dict) and isinstance(found, dict):
            self._object(cast(dict[str, Any], expected), cast(dict[str, Any], found), path)
        elif isinstance(expected, list) and isinstance(found, list):
            self.sequence(cast(list[Any], expected), cast(list[Any], found), path)
        elif (type(cast(object, expected)), expected) != (type(cast(object, found)), found):
            raise Differs(f"{path} is {found!r}, and not {expected!r}")

    def sequence(self, expected: Sequence[Any], found: Sequence[Any], path: str) -> None:
        """Members in order; where there are `...`, any number of others may be between."""
        if _MORE not in expected:
            if len(expected) != len(found):
                raise Differs(f"{path} has {len(found)} members, and not {len(expected)}: {found}")
            for number, (wanted, member) in enumerate(zip(expected, found, strict=True), 1):
                self.value(wanted, member, f"{path} {number}")
            return
        gaps = [at for at, each in enumerate(expected) if each == _MORE]
        first, last = expected[: gaps[0]], expected[gaps[-1] + 1 :]
        if len(first) + len(last) > len(found):
            raise Differs(f"{path} has too few members: {found}")
        self.sequence(first, found[: len(first)], path)
        middle = found[len(first) : len(found) - len(last)]
        for begin, end in pairwise(gaps):
            middle = self._somewhere(expected[begin + 1 : end], middle, path)
        self.sequence(last, found[len(found) - len(last) :], path)

    def _somewhere(self, wanted: Sequence[Any], found: Sequence[Any], path: str) -> Sequence[Any]:
        """What follows the first place at which `found` has what is wanted."""
        for at in range(len(found) - len(wanted) + 1):
            attempt = _Shape(dict(self.kept))
            try:
                attempt.sequence(wanted, found[at : at + len(wanted)], path)
            except Differs:
                continue
            self.kept.update(attempt.kept)
            return found[at + len(wanted) :]
        raise Differs(f"{path} lacks {wanted} in {found}")

    def _object(self, expected: dict[str, Any], found: dict[str, Any], path: str) -> None:
        for name, value in expected.items():
            if name == _MORE:
                continue
            if name not in found:
                raise Differs(f"{path}.{name} is not there")
            self.value(value, found[name], f"{path}.{name}")
        if _MORE not in expected and (others := found.keys() - expected.keys()):
            raise Differs(f"{path} has more: {', '.join(sorted(others))}")

    def _text(self, expected: str, found: str, path: str) -> None:
        names = _PLACEHOLDER.findall(expected)
        pieces = [re.escape(each) for each in _PLACEHOLDER.split(expected)[::2]]
        pattern = pieces[0]
        captured: list[str] = []
        for name, piece in zip(names, pieces[1:], strict=True):
            if name in self.kept:
                pattern += re.escape(self.kept[name])
            elif name.isupper():
                pattern += f"({_KEPT})"
                captured.append(name)
            else:
                pattern += _KINDS[name]
            pattern += piece
        matched = re.fullmatch(pattern, found)
        if matched is None:
            raise Differs(f"{path} is {found!r}, and not {expected!r}")
        self.kept.update(zip(captured, matched.groups(), strict=True))
