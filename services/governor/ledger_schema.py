"""The steps by which the tables of the ledger came to be."""

from pathlib import Path
from typing import Final

from sqlstore.schema import Schema

SCHEMA: Final = Schema(Path(__file__).parent / "migrations" / "versions", head="0004")
