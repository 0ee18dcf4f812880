"""Which of a declaration's environments a DAG bundle builds.

Decides one rule: an ephemeral environment is for previews and previews are for ephemeral environments, so that a branch
never obtains a static one, whatever it declares. Pure; who is a preview, the platform says in Airflow's configuration.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from airflow_mlops_provider.declaration.environment import Environment, Environments
from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.declaration.wording import choices, quoted
from airflow_mlops_provider.exceptions import PolicyError, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What one bundle, or one call of the DAG factory, may build.

    :param preview: the declarations come of branches that nobody has reviewed.
    :param names: no environments but these; None: all of the right kind.
    """

    preview: bool = False
    names: tuple[str, ...] | None = None

    def includes(self, name: str, settings: Environment | None) -> bool:
        """Whether DAGs may be built for the environment.

        :param settings: None where the platform's file cannot be read. The environment then counts as offered, so that
            no collision is overlooked; the factory builds nothing without that file.
        """
        of_this_kind = settings is None or settings.ephemeral == self.preview
        return of_this_kind and (self.names is None or name in self.names)

    def select(self, models: Sequence[EnvironmentModel], environments: Environments) -> tuple[EnvironmentModel, ...]:
        """Return the models whose environment is offered.

        One file serves all bundles: what others build is left out here. A file of which nothing is left is an error.

        :raises PolicyError: none is offered.
        """
        kept = tuple(model for model in models if self.includes(model.environment, model.settings))
        if not kept:
            raise PolicyError([self._refusal(models, environments)])
        return kept

    def _refusal(self, models: Sequence[EnvironmentModel], environments: Environments) -> Problem:
        offered = [name for name in environments if self.includes(name, environments[name])]
        asked = choices([quoted(model.environment) for model in models], last="and")
        place = "a preview" if self.preview else "this bundle"
        hint = f"add {choices([f'{name}: {{}}' for name in offered])}" if offered else "the platform offers none"
        file, line = models[0].origin["model"]
        message = f"{place} cannot obtain {asked}; {hint}"
        return Problem(file, line, 1, "environments", message, "environment")


#: Every environment that is not ephemeral.
EVERYTHING = Offer()
