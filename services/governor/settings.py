"""The governor's settings."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field

from meshkit.service import ProcessSettings, Section

_USD: Final = 1_000_000
# Up to here the numbers of Redis' scripts are exact.
_MOST_MICROS: Final = 9_000_000_000 * _USD
_Micros = Annotated[int, Field(ge=1, le=_MOST_MICROS)]


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
    # After how many seconds a reservation that nobody settles is given back.
    reservation_seconds: int = Field(default=600, ge=1, le=86_400)
    # For how many seconds a settlement is remembered, so that a repeat changes
    # nothing. Costs about 200 bytes of Redis memory for each call.
    remember_settled_seconds: int = Field(default=172_800, ge=60)


class Settings(ProcessSettings):
    """The settings of a governor that is a process of its own."""

    governor: GovernorSettings = Field(default_factory=GovernorSettings)
