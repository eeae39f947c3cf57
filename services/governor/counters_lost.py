"""The fault of a Redis in which counters are not there as soon as they were begun."""

from meshkit.errors import DependencyUnavailable


def counters_lost() -> DependencyUnavailable:
    """What whoever asked is told."""
    return DependencyUnavailable(
        "Counters are lost as soon as they are opened: Redis forgets.",
        metadata={"dependency": "redis"},
    )
