"""Second hops: what is looked for once the first search has answered."""

from collections.abc import Mapping, Sequence

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.offline.plan import Step


def follow_ups(
    steps: Sequence[Step], results: Mapping[int, conversation_pb2.ToolResult]
) -> Sequence[Step]:
    """The steps that go on from the results; none where these answer already."""
    return []
