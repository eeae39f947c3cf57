"""Settings on the command line."""

from collections.abc import Sequence

from cli.problem import Problem


def parse_settings(given: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` each; Problem for one that is something else, or is there twice.

    `KEY=` is one with an empty value.
    """
    settings: dict[str, str] = {}
    for each in given:
        key, separator, value = each.partition("=")
        if not separator or not key:
            raise Problem(
                f"A setting must be KEY=VALUE, such as workers=32, not {each!r}.", exit_code=2
            )
        if key in settings:
            raise Problem(f"{key} is given twice.", exit_code=2)
        settings[key] = value
    return settings
