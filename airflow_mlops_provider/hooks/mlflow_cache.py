"""What one process remembers of an MLflow server: experiment IDs for a while, facts about immutable models for good.

Decides how long and how much. Does no I/O. Keyed by the whole settings object, credentials included, so that one user
never learns what another may see.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field

from airflow_mlops_provider.hooks.mlflow_settings import MLflowSettings

#: An experiment may be renamed; its ID is looked up again after this.
EXPERIMENT_SECONDS = 300.0
_MAX_MODELS = 1024
_MAX_SERVERS = 64


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What never changes about one immutable model."""

    name: str
    source_uri: str
    digest: str
    model_id: str | None = None
    run_id: str | None = None
    experiment_id: str | None = None
    git_commit: str | None = None


@dataclass
class ModelCache:
    """Remember for one server and one user."""

    clock: Callable[[], float] = time.monotonic
    _experiments: dict[str, tuple[str, float]] = field(default_factory=dict)
    _models: OrderedDict[Hashable, ModelFacts] = field(default_factory=OrderedDict)

    def experiment_id(self, name: str) -> str | None:
        found, until = self._experiments.get(name, ("", 0.0))
        return found if found and self.clock() < until else None

    def remember_experiment(self, name: str, experiment_id: str) -> None:
        self._experiments[name] = (experiment_id, self.clock() + EXPERIMENT_SECONDS)

    def forget_experiment(self, name: str) -> None:
        self._experiments.pop(name, None)

    def model(self, key: Hashable) -> ModelFacts | None:
        return self._models.get(key)

    def remember_model(self, key: Hashable, facts: ModelFacts) -> None:
        self._models[key] = facts
        if len(self._models) > _MAX_MODELS:
            self._models.popitem(last=False)


_caches: OrderedDict[MLflowSettings, ModelCache] = OrderedDict()


def cache_for(settings: MLflowSettings) -> ModelCache:
    """Return this process's memory of the server that the settings name."""
    if settings not in _caches:
        _caches[settings] = ModelCache()
        if len(_caches) > _MAX_SERVERS:
            _caches.popitem(last=False)
    return _caches[settings]
