"""Keys and addresses of model providers in the environment, and what a mesh makes of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from agentmesh.reasoning.v1.model_pb2 import Model

# In the order in which a mesh prefers them. The first that is set is named.
_VARIABLES: Final = (
    ("anthropic", "ANTHROPIC_API_KEY"),
    ("openai", "OPENAI_BASE_URL"),
    ("openai", "OPENAI_API_KEY"),
)


@dataclass(frozen=True, slots=True)
class FoundKey:
    """A provider that the environment gives access to."""

    provider: str
    # The variable that says so. Its value is never shown.
    variable: str

    def sentence(self) -> str:
        """What it means for a mesh that is started now."""
        return (
            f"{self.variable} is set: a mesh that is started here answers with a model of"
            f" {self.provider}, whose calls cost what the price book says."
        )

    def notice(self, models: "Sequence[Model]") -> str:
        """What it means for the mesh with these models."""
        used = self.used(models)
        if used is None:
            return (
                f"{self.variable} is set here, and this mesh does not use it: it was started"
                " without, or its settings name other models."
            )
        from cli.wording import dollars

        prices = (used.input_price_micros_per_million, used.output_price_micros_per_million)
        cost = (
            f"each call costs money: {dollars(prices[0])} for a million tokens in,"
            f" {dollars(prices[1])} out"
            if any(prices)
            else "by the price book it costs nothing"
        )
        return f"{self.variable} is set: {used.name} ({self.provider}) answers; {cost}."

    def used(self, models: "Sequence[Model]") -> "Model | None":
        """The provider's model that a tier of this mesh prefers."""
        from agentmesh.reasoning.v1.model_pb2 import MODEL_STATE_NOT_CONFIGURED

        return next(
            (
                each
                for each in models
                if each.provider == self.provider
                and each.tier
                and each.state != MODEL_STATE_NOT_CONFIGURED
            ),
            None,
        )

    def document(self, models: "Sequence[Model]") -> dict[str, Any]:
        """The same as JSON."""
        used = self.used(models)
        return {
            "provider": self.provider,
            "variable": self.variable,
            "model": used.name if used else None,
            "called": used is not None,
        }


def find(environ: Mapping[str, str]) -> FoundKey | None:
    """The first provider with a key or an address: Anthropic, then OpenAI and its like."""
    return next((FoundKey(*each) for each in _VARIABLES if environ.get(each[1])), None)
