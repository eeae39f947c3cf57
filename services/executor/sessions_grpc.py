"""Sessions in the memory service."""

from collections.abc import Sequence

from agentmesh.common.v1.conversation_pb2 import Message
from agentmesh.memory.v1 import memory_service_pb2 as pb
from agentmesh.memory.v1 import memory_service_pb2_grpc
from meshkit import names


class GrpcSessions:
    """Sessions over MemoryService."""

    def __init__(
        self,
        stub: memory_service_pb2_grpc.MemoryServiceStub,
        *,
        timeout_seconds: float,
        context_tokens: int,
    ) -> None:
        self._stub = stub
        self._timeout_seconds = timeout_seconds
        self._context_tokens = context_tokens

    async def context(self, tenant: str, session: str) -> Sequence[Message]:
        """The newest messages of the session that fit into the model's context."""
        answer = await self._stub.GetContext(
            pb.GetContextRequest(
                session=names.SESSION.format(tenant=tenant, session=session),
                max_tokens=self._context_tokens,
            ),
            timeout=self._timeout_seconds,
        )
        return answer.messages

    async def remember(
        self, tenant: str, session: str, messages: Sequence[Message], request_id: str
    ) -> None:
        """Appends to the session, once per `request_id`."""
        await self._stub.AppendMessages(
            pb.AppendMessagesRequest(
                session=names.SESSION.format(tenant=tenant, session=session),
                messages=messages,
                request_id=request_id,
            ),
            timeout=self._timeout_seconds,
        )
