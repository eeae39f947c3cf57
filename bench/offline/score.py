"""How often an answer was given, and how often it was right."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Score:
    """Counts of one suite. To refuse is no mistake, but no coverage either."""

    suite: str
    asked: int = 0
    answered: int = 0
    right: int = 0
    # Of answers that are wrong: what was asked, what came, what was wanted.
    wrong: list[str] = field(default_factory=list[str])

    def count(self, *, answered: bool, right: bool, story: str) -> None:
        """Takes one question into account. `story` tells it, where it went wrong."""
        self.asked += 1
        self.answered += answered
        self.right += answered and right
        if answered and not right:
            self.wrong.append(story)

    @property
    def precision(self) -> float:
        """The share of answers that are right; 1 where none was given."""
        return self.right / self.answered if self.answered else 1.0

    @property
    def coverage(self) -> float:
        """The share of questions that were answered rightly."""
        return self.right / self.asked if self.asked else 0.0


def table(scores: Iterable[Score]) -> str:
    """The scores in lines, as Markdown writes a table."""
    lines = [
        "| suite | asked | answered | right | precision | right of all |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {each.suite} | {each.asked} | {each.answered} | {each.right}"
        f" | {each.precision:.1%} | {each.coverage:.1%} |"
        for each in scores
    ]
    return "\n".join(lines)
