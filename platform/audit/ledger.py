"""What the ledger says, and what must be said of it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from audit.finding import Finding, Invariant, TaskKey, finding


class Account(NamedTuple):
    """What a ledger has for one tenant."""

    # How many calls were charged up to its position, and what they cost together.
    charges: int = 0
    reached_micros: int = 0
    # What all calls cost that were charged: while it is built again, these are more.
    charged_micros: int = 0
    # What is booked to the tenant.
    booked_micros: int = 0
    # What budgets are begun again with.
    total_micros: int = 0


@dataclass(frozen=True, slots=True)
class LedgerStanding:
    """The ledger, as of one moment."""

    # The last message of the journal that is in it.
    position: int
    # By tenant.
    accounts: Mapping[str, Account]
    # What all bookings add up to.
    balance_micros: int


class Sum(NamedTuple):
    """What the journal has for one tenant."""

    charges: int = 0
    micros: int = 0


class Ledger(Protocol):
    """The ledger, only read."""

    async def standing(self) -> LedgerStanding:
        """Where it stands."""
        ...


def compare(ledger: LedgerStanding, journal: Mapping[str, Sum]) -> Iterator[Finding]:
    """What is to be said of a ledger.

    Args:
        ledger: Where it stands.
        journal: What the journal has of each tenant, up to the ledger's position.
    """
    for tenant in sorted({*ledger.accounts, *journal}):
        account = ledger.accounts.get(tenant, Account())
        said = journal.get(tenant, Sum())
        if (account.charges, account.reached_micros) != said:
            yield _finding(
                tenant,
                f"The ledger has {account.charges} charges of {account.reached_micros}"
                f" micro-dollars up to message {ledger.position} of the journal, which has"
                f" {said.charges} of {said.micros}.",
            )
        if account.booked_micros != account.charged_micros:
            yield _finding(
                tenant,
                f"The ledger has charges of {account.charged_micros} micro-dollars, and"
                f" {account.booked_micros} booked.",
            )
        if account.total_micros != account.charged_micros:
            yield _finding(
                tenant,
                f"The ledger has charges of {account.charged_micros} micro-dollars, and"
                f" {account.total_micros} in the totals that budgets are begun again with.",
            )
    if ledger.balance_micros:
        yield _finding(
            "", f"The ledger's bookings add up to {ledger.balance_micros} micro-dollars, not to 0."
        )


def _finding(tenant: str, sentence: str) -> Finding:
    return finding(
        Invariant.SPEND,
        TaskKey(tenant, ""),
        sentence,
        remedy="Have the ledger built again from the journal: see docs/ledger.md.",
    )
