"""Which models there are, and which of them a request goes to."""

from collections.abc import Mapping, Sequence
from typing import Final

from meshkit.errors import ModelNotFound
from services.reasoning.model import Kind, ModelSpec, Tier


class Catalogue:
    """The configured models, by name and by tier."""

    def __init__(
        self,
        models: Sequence[ModelSpec],
        tiers: Mapping[Tier, Sequence[str]],
        *,
        default_tier: Tier,
    ) -> None:
        """`tiers`: names out of `models`, the preferred one first."""
        self._models: Final = {model.name: model for model in models}
        self._tiers: Final = {
            tier: [self._models[name] for name in tiers.get(tier, ())] for tier in Tier
        }
        # The lowest tier of each model that is in one.
        self._tier_of: Final = {
            model.name: tier for tier in sorted(Tier, reverse=True) for model in self._tiers[tier]
        }
        self._default_tier: Final = default_tier

    def route(self, name: str, tier: Tier | None) -> tuple[ModelSpec, Tier]:
        """The model that a request goes to, and for which tier.

        A name wins over a tier; neither means the default tier. ModelNotFound
        where the name is unknown or no model of the tier can be called.
        """
        if not name:
            wanted = tier or self._default_tier
            model = self.first_of(wanted)
            if model is None:
                raise ModelNotFound(
                    f"No model of the tier {wanted.name.lower()} can be called."
                    f" {self._why(wanted)}",
                    metadata={"tier": wanted.name.lower()},
                )
            return model, wanted
        model = self._models.get(name)
        if model is None or model.kind is not Kind.GENERATOR or not model.callable:
            raise ModelNotFound(
                f"The model {name[:80]!r} cannot be called. Callable are: {self._callable()}.",
                metadata={"model": name[:80]},
            )
        return model, self.tier_of(model) or self._default_tier

    def named(self, name: str) -> ModelSpec:
        """The model of that name, whatever it is for. Raises ModelNotFound."""
        model = self._models.get(name)
        if model is None:
            raise ModelNotFound(
                f"There is no model {name[:80]!r}. There are: {', '.join(self._models)}.",
                metadata={"model": name[:80]},
            )
        return model

    def first_of(self, tier: Tier) -> ModelSpec | None:
        """The preferred model of a tier that can be called; None where there is none."""
        return next(iter(self.callable_of(tier)), None)

    def callable_of(self, tier: Tier) -> list[ModelSpec]:
        """The models of a tier that can be called, the preferred one first."""
        return [model for model in self._tiers[tier] if model.callable]

    def tier_of(self, model: ModelSpec) -> Tier | None:
        """The lowest tier that has `model`; None where none has it."""
        return self._tier_of.get(model.name)

    def listed(self, tier: Tier | None) -> list[tuple[ModelSpec, Tier | None]]:
        """Each model once, in order of tier and preference, then those of no tier.

        With `tier` only that tier's.
        """
        if tier is not None:
            return [(model, tier) for model in self._tiers[tier]]
        ordered = [model for each in Tier for model in self._tiers[each]]
        distinct = dict.fromkeys([*(model.name for model in ordered), *self._models])
        return [(self._models[name], self.tier_of(self._models[name])) for name in distinct]

    def _why(self, tier: Tier) -> str:
        """Why no model of the tier can be called."""
        reasons = [f"{model.name}: {model.description}" for model in self._tiers[tier]]
        return " ".join(reasons) or "The settings name none."

    def _callable(self) -> str:
        return ", ".join(
            name
            for name, model in self._models.items()
            if model.callable and model.kind is Kind.GENERATOR
        )
