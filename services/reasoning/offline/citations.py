"""The passages that an answer rests on, by their numbers in it."""

from dataclasses import dataclass, field

from agentmesh.common.v1 import conversation_pb2


@dataclass(slots=True)
class Citations:
    """Numbers passages from 1, in the order in which they are cited."""

    cited: list[conversation_pb2.Citation] = field(default_factory=list[conversation_pb2.Citation])

    def number(self, citation: conversation_pb2.Citation) -> int:
        """The number of `citation` in the answer; a passage that is cited again keeps its own."""
        if citation not in self.cited:
            self.cited.append(citation)
        return self.cited.index(citation) + 1
