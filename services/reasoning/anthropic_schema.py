"""Which JSON Schemas Anthropic's API can promise to satisfy, and how it wants them.

Imported with the SDK, which knows.
"""

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, cast

from anthropic import transform_schema

_REFERENCE: Final = "#/$defs/"


@lru_cache(maxsize=128)
def native_schema(text: str) -> dict[str, Any] | None:
    """The schema as the API takes it, which allows nothing more; None where it cannot be said.

    The API knows closed objects with named members, and no schemas within themselves. What
    it does not know of the rest goes into descriptions, for the model to read.
    """
    schema: dict[str, Any] = json.loads(text)
    if not _can_be_said(schema, schema, ()):
        return None
    try:
        return transform_schema(schema)
    except (AssertionError, AttributeError, TypeError, ValueError):
        return None


def _can_be_said(node: Any, root: dict[str, Any], within: tuple[str, ...]) -> bool:
    """`within`: the references that led here."""
    if not isinstance(node, dict):
        return False
    node = cast(dict[str, Any], node)
    reference = node.get("$ref")
    if reference is not None:
        if not reference.startswith(_REFERENCE) or reference in within:
            return False
        target = root.get("$defs", {}).get(reference.removeprefix(_REFERENCE))
        return _can_be_said(target, root, (*within, reference))
    if node.get("type") == "object":
        properties: dict[str, Any] = node.get("properties") or {}
        if not properties or not set(node.get("required", ())) <= set(properties):
            return False
    return all(_can_be_said(each, root, within) for each in _within(node))


def _within(node: dict[str, Any]) -> Iterator[Any]:
    yield from node.get("properties", {}).values()
    for keyword in ("anyOf", "oneOf", "allOf"):
        yield from node.get(keyword, ())
    if "items" in node:
        yield node["items"]
