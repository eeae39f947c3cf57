"""What a task reads and writes of the conversation of its session."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agentmesh.common.v1 import conversation_pb2
from agentmesh.common.v1.conversation_pb2 import Message
from meshkit.errors import MeshError, RequestIdReused
from services.executor import conversation
from services.executor.ending import degrade
from services.executor.journal import Journal


class Sessions(Protocol):
    """Remembers the conversations of sessions."""

    async def context(self, tenant: str, session: str) -> Sequence[Message]: ...

    async def remember(
        self, tenant: str, session: str, messages: Sequence[Message], request_id: str
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class SessionMemory:
    """The memory of sessions; a task goes on without it."""

    sessions: Sessions

    async def earlier(self, journal: Journal) -> Sequence[Message]:
        """What was said in the session before the task."""
        session = _session(journal)
        if not session:
            return ()
        try:
            return await self.sessions.context(journal.tenant, session)
        except MeshError as error:
            await degrade(
                journal, "SESSION_SKIPPED", f"Earlier messages of the session are missing: {error}"
            )
            return ()

    async def remember(self, journal: Journal, answer: str) -> None:
        """Adds the request and its answer to the session, once for a task.

        To be done before the end is recorded: a crash between the two repeats the
        append, which the request id makes harmless.
        """
        session = _session(journal)
        if not session:
            return
        messages = [
            conversation.request(journal.task),
            conversation.text_message(conversation_pb2.ROLE_ASSISTANT, answer),
        ]
        try:
            await self.sessions.remember(journal.tenant, session, messages, journal.task_id)
        except RequestIdReused:
            # An earlier attempt got as far as this with other words: the session has an answer.
            return
        except MeshError as error:
            await degrade(
                journal, "SESSION_SKIPPED", f"The session does not remember this answer: {error}"
            )


def _session(journal: Journal) -> str:
    """The session that the task takes part in; empty for none."""
    return journal.task.session if journal.agent.use_session_memory else ""
