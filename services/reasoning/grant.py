"""A call that the budgets have room for."""

from meshkit.frozen import frozen
from services.reasoning.generation import ModelCall, Spending
from services.reasoning.lease_pool import Claim


@frozen
class Grant:
    """A call that may be made, and how it is settled."""

    call: ModelCall
    # Its own, with the key under which it is settled.
    spending: Spending
    input_tokens: int
    # By which it is charged; the governor's present ones if empty.
    price_version: str
    # False where the governor could not be asked.
    governed: bool
    # The call cannot cost anything.
    free: bool = False
    # Under a lease.
    claim: Claim | None = None
    # Taken from the local allowance.
    allowed_micros: int = 0
    degradations: tuple[str, ...] = ()
