"""What is too recent to be judged."""

from datetime import timedelta
from typing import Final

# A settlement, or the sweep of a reservation, may wait for so long for a governor that is away.
ON_ITS_WAY: Final = timedelta(minutes=1)
