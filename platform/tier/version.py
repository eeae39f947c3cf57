"""The version of Agentmesh."""

from typing import Final

VERSION: Final = "0.1.0"
