"""Whether an hour costs far more than the same hour of earlier days usually does.

The statistic is the modified z-score of B. Iglewicz and D. C. Hoaglin, "How to Detect and
Handle Outliers", ASQC Basic References in Quality Control 16, 1993: the distance from the
median in units of the median absolute deviation (MAD), scaled so that it is comparable with a
standard deviation where values are normally distributed. They recommend to call values with a
score above 3.5 outliers. Median and MAD are not moved by outliers among the earlier days
themselves, as mean and standard deviation are.

Where more than half of the earlier days are equal, the MAD is 0. Then the mean absolute
deviation from the median takes its place, scaled likewise. Where all are equal that is 0, too,
and a cent more would be infinitely unusual: so the spread is never taken for less than a tenth
of the median, nor less than 10 cents. A rise of a third, or of 35 cents, is never an anomaly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Final

# Earlier days that are looked at, and how many of them there must be.
HISTORY_DAYS: Final = 28
LEAST_DAYS: Final = 7

_MOST_SCORE: Final = 3.5
# Of a normal distribution: standard deviations in a MAD, and in a mean absolute deviation.
_OF_MAD: Final = 1.4826
_OF_MEAN_DEVIATION: Final = 1.2533
_LEAST_SHARE: Final = 0.1
_LEAST_MICROS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Usual:
    """What is usual at an hour of the day, in micro-USD."""

    days: int
    median_micros: float
    # What counts as one standard deviation.
    spread_micros: float

    def score(self, spent_micros: int) -> float:
        """The modified z-score of spending that much in the hour."""
        return (spent_micros - self.median_micros) / self.spread_micros

    def is_passed_by(self, spent_micros: int) -> bool:
        """Whether it is unusual to spend that much, or more, in the hour."""
        return self.score(spent_micros) > _MOST_SCORE


def usual(earlier_micros: Sequence[int]) -> Usual | None:
    """What is usual; None where too little is known.

    Args:
        earlier_micros: Spent in the same hour of earlier days, each day since there was
            anything spent at all; 0 for one without spending.
    """
    if len(earlier_micros) < LEAST_DAYS:
        return None
    middle = median(earlier_micros)
    deviations = [abs(each - middle) for each in earlier_micros]
    spread = _OF_MAD * median(deviations) or _OF_MEAN_DEVIATION * fmean(deviations)
    return Usual(len(earlier_micros), middle, max(spread, _LEAST_SHARE * middle, _LEAST_MICROS))
