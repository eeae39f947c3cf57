"""Labels on the command line."""

from collections.abc import Sequence

from cli.problem import Problem


def parse_labels(given: Sequence[str]) -> dict[str, str]:
    """`KEY=VALUE` each; Problem for one that is something else."""
    labels: dict[str, str] = {}
    for each in given:
        key, separator, value = each.partition("=")
        if not separator or not key:
            raise Problem(
                f"--label must be KEY=VALUE, such as team=ops, not {each!r}.", exit_code=2
            )
        labels[key] = value
    return labels
