"""Test-only: what a provider's server is told to do, and the seam at which the suite drives one."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Final, Protocol

from pydantic import TypeAdapter

from services.reasoning.generation import Provider, StopReason
from services.reasoning.provider_failures import Failure

# Each request carries its script here: as an HTTP header, or as metadata of a call.
SCRIPT_HEADER: Final = "x-agentmesh-script"


@dataclass(frozen=True, slots=True)
class SaidCall:
    """A tool call as a model says it."""

    call_id: str
    tool: str
    # JSON text; models also say what is none.
    arguments: str


@dataclass(frozen=True, slots=True)
class Reply:
    """What the model says, in no provider's format."""

    # The text in the pieces in which it is streamed.
    text: tuple[str, ...] = ("Hello", ", ", "world.")
    calls: tuple[SaidCall, ...] = ()
    stop: StopReason = StopReason.END
    input_tokens: int = 12
    # The part of these that was cached.
    cached_input_tokens: int = 0
    output_tokens: int = 5
    # False leaves all counts of tokens out.
    tells_usage: bool = True


@dataclass(frozen=True, slots=True)
class Script:
    """How one request is answered."""

    reply: Reply = field(default_factory=Reply)
    # Refuses with what the format has for this, instead of answering.
    failure: Failure | None = None
    # Over HTTP: refuses with this status, whatever `failure` says; and more headers.
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    # What the refusal says to people; formats put their words around it.
    message: str = "No."
    # Over HTTP: the refusal's whole content, instead of one in the format's words.
    refusal: str | None = None
    # When the refused may come back, in seconds, as the format says it.
    retry_after_seconds: float | None = None
    # Before anything is sent, and between pieces, in seconds.
    delay_seconds: float = 0.0
    pause_seconds: float = 0.0
    # Breaks the connection after so many pieces; 0 before the first byte.
    cut_after: int | None = None
    # Ends in good order after so many pieces, as if that were all.
    end_after: int | None = None
    # Sends nothing more after so many pieces, and waits for the client to leave.
    hang_after: int | None = None
    # Sends this, instead of the answer, with the status and type of an answer.
    body: str | None = None
    # Goes on with more of the same until the client leaves.
    endless: bool = False

    def to_header(self) -> str:
        """As the header's value: JSON in ASCII."""
        return json.dumps(asdict(self))

    @classmethod
    def from_header(cls, text: str) -> "Script":
        """The script of a header."""
        return _SCRIPTS.validate_json(text)


_SCRIPTS: Final = TypeAdapter(Script)


class Ability(StrEnum):
    """What a provider's published format can say; the suite leaves out what it cannot."""

    TOOLS = "tools"
    # Arguments of tools are text, which need not be JSON.
    MALFORMED_CALLS = "malformed tool calls"
    IMAGES = "images"
    # Takes a JSON Schema for its answer.
    SCHEMAS = "schemas"
    CACHED_TOKENS = "cached tokens"
    # Says that an answer was withheld.
    REFUSALS = "refusals"
    # Says when a refused call may come again.
    RETRY_AFTER = "retry after"
    # Tells a stop text from an end.
    STOP_TEXTS = "stop texts"
    # Can be told that a key is wrong.
    KEYS = "keys"


class Received(Protocol):
    """A request that came in."""

    @property
    def content(self) -> bytes:
        """All that it said, as it came."""
        ...

    @property
    def streamed(self) -> bool:
        """Whether the answer was to come in pieces."""
        ...

    @property
    def client_left(self) -> asyncio.Event:
        """Set when its client goes away before the answer has ended."""
        ...


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider of the suite allows an answer."""

    connect_seconds: float = 60.0
    # Until the first byte, and between any two.
    silence_seconds: float = 60.0
    whole_seconds: float = 60.0
    max_output_tokens: int = 4096


USUAL_LIMITS: Final = Limits()


class Upstream(Protocol):
    """A provider's server that is scripted, and the provider that calls it."""

    @property
    def name(self) -> str:
        """As the provider is called in errors. Its model is called `scripted`."""
        ...

    @property
    def abilities(self) -> frozenset[Ability]:
        """What its format can say."""
        ...

    @property
    def key(self) -> str:
        """The key that is given to the provider; empty for none."""
        ...

    @property
    def requests(self) -> Sequence[Received]:
        """What came in, oldest first."""
        ...

    def provider(
        self, script: Script, limits: Limits = ..., *, key: str = ...
    ) -> AbstractAsyncContextManager[Provider]:
        """A provider each of whose requests carries `script`; closed at the end.

        `key`: another than the server's.
        """
        ...

    def provider_of_nobody(self) -> AbstractAsyncContextManager[Provider]:
        """A provider at an address where nobody listens."""
        ...
