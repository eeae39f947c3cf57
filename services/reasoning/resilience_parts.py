"""Puts together what is done about models that fail: named here, wired in main.py."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from meshkit.redis_line import RedisLine
from meshkit.service import Resources
from services.reasoning.breaker import Breaker
from services.reasoning.catalogue import Catalogue
from services.reasoning.endpoint_limits import EndpointLimits
from services.reasoning.endpoint_rates import RateRules
from services.reasoning.endpoint_rates_redis import RedisRates
from services.reasoning.endpoint_standing import BreakerRules
from services.reasoning.endpoint_standings_redis import RedisStandings
from services.reasoning.endpoints import Endpoint, Endpoints
from services.reasoning.extra_calls import ExtraCalls
from services.reasoning.fallback_model import Degrading, FallbackModel
from services.reasoning.generation import Generator
from services.reasoning.guarded_model import GuardedModel
from services.reasoning.hedged_model import HedgedModel
from services.reasoning.in_flight import InFlight
from services.reasoning.last_answers import LastAnswers
from services.reasoning.last_answers_redis import RedisAnswers
from services.reasoning.latency_quantile import LatencyQuantile
from services.reasoning.model import ModelSpec, Tier
from services.reasoning.rate_lease import RateLease
from services.reasoning.resilience_settings import ResilienceSettings
from services.reasoning.retried_model import RetriedModel

# A pause is between so much shorter and so much longer than it would be.
_STRETCH: Final = 0.2
# Second calls that may be saved up.
_SAVED_HEDGES: Final = 2


@dataclass(frozen=True, slots=True)
class EndpointLimitSettings:
    """What the provider of one model allows."""

    rates: RateRules
    # Calls of this process at a time.
    max_in_flight: int


class Resilience:
    """The wrappers around a provider and around what pays for its calls."""

    def __init__(
        self,
        settings: ResilienceSettings,
        catalogue: Catalogue,
        limits: Mapping[ModelSpec, EndpointLimitSettings],
        resources: Resources,
        line: RedisLine,
        *,
        random: Callable[[], float],
    ) -> None:
        """`limits` of the models that are served elsewhere: each of them gets an endpoint."""
        self._settings: Final = settings
        self._catalogue: Final = catalogue
        self._resources: Final = resources
        self._line: Final = line
        self._random: Final = random
        self.endpoints: Final = Endpoints(
            {spec.name: self._endpoint(spec, limit) for spec, limit in limits.items()}
        )
        resources.stack.push_async_callback(self.endpoints.close)

    def first_of(self, tier: Tier) -> ModelSpec | None:
        """The preferred model of a tier that may be called now, or else the preferred one."""
        models = self._catalogue.callable_of(tier)
        well = (model for model in models if self.endpoints.refusal(model.name) is None)
        return next(well, models[0] if models else None)

    def around_providers(self, provided: Generator) -> Generator:
        """One admitted call: breakers, limits and retries."""
        breaker, retry = self._settings.breaker, self._settings.retry
        guarded = GuardedModel(
            provided,
            self.endpoints,
            slow_seconds=breaker.slow_seconds,
            random=self._random,
            clock=self._resources.clock,
        )
        return RetriedModel(
            guarded,
            attempts=retry.attempts,
            extra=_by_model(lambda: ExtraCalls(retry.percent, most=retry.saved)),
            pause_seconds=retry.pause_seconds,
            longest_pause_seconds=retry.longest_pause_seconds,
            random=self._random,
            clock=self._resources.clock,
        )

    def around_budgets(self, budgeted: Generator, offline: ModelSpec) -> Generator:
        """Calls that are each admitted and settled: hedges and fallbacks."""
        hedge, degrade = self._settings.hedge, self._settings.degrade
        hedged = HedgedModel(
            budgeted,
            hedges=self._hedges,
            extra=_by_model(lambda: ExtraCalls(hedge.percent, most=_SAVED_HEDGES)),
            quantile=lambda: LatencyQuantile(hedge.percentile / 100, warm_up=hedge.warm_up),
            clock=self._resources.clock,
        )
        self._resources.stack.push_async_callback(hedged.close)
        answers: LastAnswers | None = None
        if degrade.last_answer_seconds:
            answers = LastAnswers(
                RedisAnswers(self._line),
                seconds=degrade.last_answer_seconds,
                most=degrade.last_answers,
                clock=self._resources.clock,
            )
            self._resources.stack.push_async_callback(answers.close)
        return FallbackModel(
            hedged,
            models=self._catalogue.callable_of,
            refusal=self.endpoints.refusal,
            degrading=Degrading(
                to_cheaper_tiers=degrade.to_cheaper_tiers,
                to_last_answer=answers,
                to_offline=offline if degrade.to_offline else None,
            ),
        )

    def _hedges(self, model: str) -> bool:
        endpoint = self.endpoints.get(model)
        return endpoint is not None and endpoint.refusal() is None

    def _endpoint(self, spec: ModelSpec, limit: EndpointLimitSettings) -> Endpoint:
        given, clock = self._settings.breaker, self._resources.clock
        rules = BreakerRules(
            given.window_seconds,
            given.least_failures,
            given.failure_percent,
            given.pause_seconds,
            given.longest_pause_seconds,
            given.probes,
            given.probe_seconds,
        )
        breaker = Breaker(
            spec.name,
            rules,
            RedisStandings(self._line, rules, self._stretch),
            stretch=self._stretch,
            clock=clock,
            ids=self._resources.ids,
            log=self._resources.log,
        )
        rates = limit.rates
        limited = rates.requests_per_minute is not None or rates.tokens_per_minute is not None
        limits = EndpointLimits(
            spec,
            RateLease(spec.name, rates, RedisRates(self._line), clock) if limited else None,
            InFlight(limit.max_in_flight),
            breaker,
            counts_tokens=rates.tokens_per_minute is not None,
            patience_seconds=self._settings.turn_patience_seconds,
            random=self._random,
            clock=clock,
        )
        return Endpoint(breaker, limits)

    def _stretch(self) -> float:
        return 1 + _STRETCH * (2 * self._random() - 1)


def _by_model(make: Callable[[], ExtraCalls]) -> Callable[[str], ExtraCalls]:
    return defaultdict[str, ExtraCalls](make).__getitem__
