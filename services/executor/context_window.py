"""What of a long conversation a model is given: all that must stay, the newest, the gist.

The conversation grows message by message, and each message is looked at when it comes,
once more when it is no longer among the newest, and when it goes. So a step costs as
much as what is new in it, and the same messages always leave the same window: a task
that another executor takes over sends what the first one would have sent.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agentmesh.common.v1 import conversation_pb2
from agentmesh.common.v1.conversation_pb2 import Message, ToolResult
from meshkit.errors import TooLarge
from services.executor.shortening import Words, shorten, words_of

# How reasoning counts where no tokeniser is at hand; providers count for themselves.
_BYTES_PER_TOKEN: Final = 4
# What is left of an older message, and of any where nothing else makes room: of what a
# tool returned, which can be asked for again, and of what was said.
_CUTS: Final = ((800, 2000), (160, 400))
# What is hardly longer than its gist stays as it is while there is room: that costs less.
_LONGER_THAN_GIST: Final = 1.5
# Room is made in one go for a while: models remember requests that begin alike.
_FILLED_AGAIN_SHARE: Final = 0.75


class Messages(Protocol):
    """The messages of a request: changed where they are, since each copy costs."""

    def add(self, *, role: conversation_pb2.Role = ...) -> Message: ...
    def __delitem__(self, place: slice, /) -> None: ...


@dataclass(slots=True, eq=False)
class _Kept:
    """One message of the window."""

    message: Message
    tokens: int
    is_pinned: bool
    # A model's calls and their results come and go together.
    group: int
    # How many of _CUTS were made.
    cuts: int = 0


class ContextWindow:
    """Keeps the messages of one request within its limit."""

    def __init__(
        self, messages: Messages, *, limit_tokens: int, full_messages: int, topic: str
    ) -> None:
        """An empty window.

        Args:
            messages: Those of the request, none yet; only the window changes them.
            limit_tokens: The most that they may be together.
            full_messages: So many of the newest stay whole as long as there is room.
            topic: What the task is about, in words: in older messages, this stays.
        """
        self._messages: Final = messages
        self._limit: Final = limit_tokens
        self._full: Final = full_messages
        self._topic: Final = topic
        # Of the topic, once they are needed: most tasks are short.
        self._words: Words | None = None
        # In the order of the messages.
        self._kept: Final[list[_Kept]] = []
        # The newest that are not pinned.
        self._newest: Final[deque[_Kept]] = deque()
        self._group = 0
        self.tokens = 0
        # How many messages were left out.
        self.left_out = 0

    def add(self, message: Message, *, is_pinned: bool = False) -> None:
        """Adds what was said next; pinned, it stays whole until it is unpinned."""
        copy = self._messages.add()
        copy.CopyFrom(message)
        self._keep(copy, is_pinned=is_pinned)

    def add_text(self, role: conversation_pb2.Role, text: str, *, is_pinned: bool = False) -> None:
        """Adds a message of one text."""
        message = self._messages.add(role=role)
        message.parts.add(text=text)
        self._keep(message, is_pinned=is_pinned)

    def add_result(self, result: ToolResult) -> None:
        """Adds what a tool returned."""
        message = self._messages.add(role=conversation_pb2.ROLE_TOOL)
        message.tool_result.CopyFrom(result)
        self._keep(message, is_pinned=False)

    def unpin_last(self) -> None:
        """The last message that is pinned becomes an older one."""
        for kept in reversed(self._kept):
            if kept.is_pinned:
                kept.is_pinned = False
                self._age(kept)
                break

    def check(self) -> None:
        """Returns if the request may be sent.

        Raises:
            TooLarge: What must stay has no room.
        """
        if self.tokens <= self._limit:
            return
        raise TooLarge(
            f"What the model must be told is about {self.tokens:,} tokens: the instructions, the"
            f" request and the newest messages, shortened. The limit is {self._limit:,}. Put large"
            " texts into documents, or raise the agent's context.max_tokens.",
            metadata={"limit_tokens": str(self._limit), "size_tokens": str(self.tokens)},
        )

    def _keep(self, message: Message, *, is_pinned: bool) -> None:
        if message.role != conversation_pb2.ROLE_TOOL:
            self._group += 1
        kept = _Kept(message, tokens_of(message), is_pinned, self._group)
        self._kept.append(kept)
        self.tokens += kept.tokens
        if not is_pinned:
            self._newest.append(kept)
            if len(self._newest) > self._full:
                self._age(self._newest.popleft())
        self._make_room()

    def _make_room(self) -> None:
        if self.tokens <= self._limit:
            return
        self._leave_out(int(self._limit * _FILLED_AGAIN_SHARE))
        for cuts in range(1, len(_CUTS) + 1):
            if self.tokens <= self._limit:
                return
            self._cut_all((kept for kept in self._loose() if _is_result(kept)), cuts)
            self._cut_all(self._loose(), cuts)

    def _leave_out(self, target_tokens: int) -> None:
        """Drops the oldest messages, but for those of a group that the newest are part of."""
        first_kept_group = min((kept.group for kept in self._newest), default=self._group + 1)
        left: list[int] = []
        over = self.tokens - target_tokens
        dropping = 0
        for place, kept in enumerate(self._kept):
            if kept.group >= first_kept_group:
                break
            if kept.is_pinned:
                continue
            # A group is never left in parts.
            if over <= 0 and kept.group != dropping:
                break
            dropping = kept.group
            over -= kept.tokens
            left.append(place)
        for begin, end in reversed(_runs(left)):
            self.tokens -= sum(kept.tokens for kept in self._kept[begin:end])
            del self._kept[begin:end]
            del self._messages[begin:end]
        self.left_out += len(left)

    def _loose(self) -> Iterable[_Kept]:
        """What could be cut further."""
        return (kept for kept in self._kept if not kept.is_pinned)

    def _cut_all(self, some: Iterable[_Kept], cuts: int) -> None:
        for kept in some:
            if self.tokens <= self._limit:
                return
            self._cut(kept, cuts)

    def _age(self, kept: _Kept) -> None:
        """Cuts a message that is no longer among the newest, if it is worth it."""
        if kept.tokens * _BYTES_PER_TOKEN > _LONGER_THAN_GIST * _most_bytes(kept, 1):
            self._cut(kept, 1)

    def _cut(self, kept: _Kept, cuts: int) -> None:
        if kept.cuts >= cuts:
            return
        kept.cuts = cuts
        max_bytes = _most_bytes(kept, cuts)
        if kept.tokens * _BYTES_PER_TOKEN <= max_bytes:
            return
        self.tokens -= kept.tokens
        if self._words is None:
            self._words = words_of(self._topic)
        shorten(kept.message, self._words, max_bytes)
        kept.tokens = tokens_of(kept.message)
        self.tokens += kept.tokens


def tokens_of(message: Message) -> int:
    """About how many tokens a message is."""
    return -(-message.ByteSize() // _BYTES_PER_TOKEN)


def _most_bytes(kept: _Kept, cuts: int) -> int:
    """What a message may have after so many cuts."""
    return _CUTS[cuts - 1][0 if _is_result(kept) else 1]


def _is_result(kept: _Kept) -> bool:
    return kept.message.role == conversation_pb2.ROLE_TOOL


def _runs(places: Sequence[int]) -> list[tuple[int, int]]:
    """`places`, which ascend, as ranges."""
    runs: list[tuple[int, int]] = []
    for place in places:
        if runs and runs[-1][1] == place:
            runs[-1] = (runs[-1][0], place + 1)
        else:
            runs.append((place, place + 1))
    return runs
