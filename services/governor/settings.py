"""The governor's settings."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, model_validator

from meshkit.service import ProcessSettings, Section
from services.governor.alert_webhook_settings import WebhookSettings
from services.governor.budget import MOST_MICROS

_USD: Final = 1_000_000
_Micros = Annotated[int, Field(ge=1, le=MOST_MICROS)]


class TenantSettings(Section):
    """What one tenant may spend."""

    # Hard limit of a day (UTC), in millionths of a US dollar.
    day_limit_micros: _Micros
    # Hard limit of a calendar month (UTC), in millionths of a US dollar.
    month_limit_micros: _Micros


class GovernorSettings(Section):
    """The governor's section of the settings."""

    # The price book; None for the one that comes with the governor.
    price_book: Path | None = None
    # Hard limit of a tenant's day (UTC), in millionths of a US dollar.
    day_limit_micros: _Micros = 100 * _USD
    # Hard limit of a tenant's calendar month (UTC), in millionths of a US dollar.
    month_limit_micros: _Micros = 2_000 * _USD
    # Tenants with limits of their own, by id.
    tenants: dict[str, TenantSettings] = Field(default_factory=dict[str, TenantSettings])
    # From which share of these limits, in percent, the tenant is told; 0 for never.
    alert_percent: int = Field(default=80, ge=0, le=100)
    # From which share of these limits, in percent, calls go to cheaper tiers; 0 for never.
    degrade_percent: int = Field(default=90, ge=0, le=100)
    # How many budgets may be set for a tenant; as many over all tenants together.
    budgets_per_tenant: int = Field(default=1_000, ge=1, le=100_000)
    # Callers that may set and see what concerns all tenants, beside those with the role of an
    # operator or admin, such as `user:anonymous`; `*` is everybody.
    operators: list[str] = Field(default_factory=list[str])
    # Callers besides services that may admit and settle calls, such as `user:anonymous`: for
    # benchmarks, which come through the gateway.
    spenders: list[str] = Field(default_factory=list[str])
    # After how many seconds work that a budget slows down may come back.
    throttle_seconds: float = Field(default=10.0, gt=0, le=3600)
    # Where the ledger is: empty for a file of SQLite, or an address such as
    # postgresql://USER@HOST:PORT/DATABASE, which any number of governors share.
    ledger_database: str = Field(default="", repr=False)
    # For how many days the journal of usage is kept, from which the ledger is built; for ever
    # where None.
    journal_keep_days: int | None = Field(default=400, ge=1)
    # How many bytes the journal may take; a full one refuses settlements. As many as there are
    # where None.
    journal_max_bytes: int | None = Field(default=None, ge=1_048_576)
    # After how many seconds a reservation that nobody settles is given back.
    reservation_seconds: int = Field(default=600, ge=1, le=86_400)
    # Tiers that allow at most so many requests a second are counted over all gateways
    # together: each request then asks a governor. 0 where there is one gateway alone.
    shared_limits_up_to: float = Field(default=0, ge=0)
    # The tenant of requests to the gateway that name none.
    gateway_tenant: str = "default"
    # For how many seconds a settlement is remembered, so that a repeat changes
    # nothing; about older ones the ledger is asked. Costs some 235 bytes of Redis memory for each
    # call.
    remember_settled_seconds: int = Field(default=3_600, ge=60)
    # For how many days alerts are kept, for who comes to watch.
    alert_keep_days: int = Field(default=90, ge=1, le=3650)
    # Who is told of alerts over HTTP, by names of their own. A name keeps its place.
    alert_webhooks: dict[str, WebhookSettings] = Field(default_factory=dict[str, WebhookSettings])

    @model_validator(mode="after")
    def _check_lines(self) -> "GovernorSettings":
        # As of budgets that are set. One alone may lie beyond the other's default, as ever.
        both = {"alert_percent", "degrade_percent"} <= self.model_fields_set
        if both and 0 < self.degrade_percent < self.alert_percent:
            raise ValueError("degrade_percent must be at least alert_percent, or 0 for never")
        return self


class Settings(ProcessSettings):
    """The settings of a governor that is a process of its own."""

    governor: GovernorSettings = Field(default_factory=GovernorSettings)
