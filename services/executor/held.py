"""A runnable task's message in the hands of this process."""

from meshkit.bus import Delivery


class Held:
    """Settles the newest delivery of one message.

    A process that stood still for longer than a claim gets its own message
    again: the work goes on, and the new delivery takes the old one's place.
    """

    def __init__(self, delivery: Delivery) -> None:
        self.latest = delivery
        # It is delivered again, after its delay.
        self.is_put_off = False

    async def acknowledge(self) -> None:
        """Done: it is not delivered again."""
        await self.latest.acknowledge()

    async def not_now(self, delay_seconds: float) -> None:
        """It is delivered again after `delay_seconds`, to anybody."""
        self.is_put_off = True
        await self.latest.not_now(delay_seconds)

    async def in_progress(self) -> None:
        """Still at work: the claim begins anew."""
        await self.latest.in_progress()
