"""Records alerts in the transaction of the charges that caused them: both are there, or neither."""

from collections.abc import Callable, Sequence
from typing import Final

import sqlalchemy as sa

from services.governor.alert_finder import AlertFinder, Spending, Work
from services.governor.alert_store_sql import record
from services.governor.ledger_charge import Charge
from services.governor.ledger_sums import Sums, time_of


class AlertRecorder:
    """A Companion of the ledger's writer."""

    def __init__(self, finder: AlertFinder) -> None:
        self._finder: Final = finder
        self._listeners: list[Callable[[], None]] = []
        self._is_new = False

    def on_recorded(self, listener: Callable[[], None]) -> None:
        """Has `listener` called whenever there is something new to be told."""
        self._listeners.append(listener)

    def beside(self, charges: Sequence[Charge]) -> Callable[[sa.Connection], None]:
        """Records what the ledger calls for with these charges in it."""
        search = self._finder.search(
            Spending(
                Work(each.tenant, each.task_type, each.agent, each.session),
                time_of(each.settled_micros),
                each.figures.cost_micros,
            )
            for each in charges
            if each.figures.cost_micros
        )

        def work(connection: sa.Connection) -> None:
            if record(connection, search(Sums(connection))):
                self._is_new = True

        return work

    def leads(self) -> None:
        """Forgets what is known of the ledger: others may have written to it."""
        self._finder.forget()

    def written(self) -> None:
        """Calls the listeners where the transaction that is done has recorded something."""
        self._finder.keep()
        if self._is_new:
            self._is_new = False
            for listener in self._listeners:
                listener()
