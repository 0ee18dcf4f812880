"""The one model in one environment that ``explain``, ``resolve`` and ``run`` are asked about.

Decides how ``MODEL_OR_PATH --env ENV`` is understood. Reads declarations below the current directory.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_mlops_provider.cli.files import add_environments_option, explicit_environments, find_declarations, shown
from airflow_mlops_provider.exceptions import DeclarationError, Problem

if TYPE_CHECKING:
    from airflow_mlops_provider.declaration import EnvironmentModel, Environments


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add ``MODEL_OR_PATH``, ``--env`` and ``--environments``."""
    parser.add_argument("model", metavar="MODEL_OR_PATH", help="a model's name, or the path of its declaration")
    parser.add_argument("--env", required=True, metavar="ENV", help="name of the environment")
    add_environments_option(parser)


def load_chosen_model(arguments: argparse.Namespace) -> EnvironmentModel:
    """Return the model that the arguments name.

    :raises DeclarationError: there is no such model, it does not go to this environment, or its file has problems.
    """
    loaded = _load(Path(arguments.model), arguments, {}) if _is_path(arguments.model) else _load_by_name(arguments)
    for model in loaded:
        if model.environment == arguments.env:
            return model
    raise DeclarationError([_not_there(arguments.env, loaded)])


def _is_path(text: str) -> bool:
    return "/" in text or text.endswith((".yaml", ".yml"))


def _load(file: Path, arguments: argparse.Namespace, known: dict[Path, Environments]) -> tuple[EnvironmentModel, ...]:
    """Load one declaration.

    :param known: environments files that were read before; this adds to them.
    """
    from airflow_mlops_provider.declaration import find_environments, load_declaration, load_environments

    environments = find_environments(file, explicit_environments(arguments))
    if environments not in known:
        known[environments] = load_environments(shown(environments))
    return load_declaration(file, known[environments])


def _load_by_name(arguments: argparse.Namespace) -> tuple[EnvironmentModel, ...]:
    """Look into every file: a model may live in one of another name, and no name may mean two models."""
    try:
        files = find_declarations(["."])
    except FileNotFoundError as error:
        raise DeclarationError([Problem(arguments.model, 0, 0, "", str(error))]) from error
    models: list[tuple[EnvironmentModel, ...]] = []
    known: dict[Path, Environments] = {}
    broken: DeclarationError | None = None
    for file in files:
        try:
            models.append(_load(file, arguments, known))
        except DeclarationError as error:
            broken = error if file.stem == arguments.model else broken
    found = [loaded for loaded in models if loaded[0].model == arguments.model]
    if len(found) > 1:
        where = " and ".join(loaded[0].file for loaded in found)
        raise DeclarationError([Problem(arguments.model, 0, 0, "", f"is declared in {where}; name the file")])
    if found:
        return found[0]
    raise broken or DeclarationError([_unknown(arguments.model, [loaded[0].model for loaded in models])])


def _unknown(name: str, names: list[str]) -> Problem:
    from airflow_mlops_provider.declaration.wording import advice

    return Problem(
        name, 0, 0, "", f"no valid declaration below this directory has this name; {advice(name, sorted(set(names)))}"
    )


def _not_there(environment: str, loaded: tuple[EnvironmentModel, ...]) -> Problem:
    from airflow_mlops_provider.declaration.wording import advice, quoted

    where = advice(environment, [model.environment for model in loaded])
    return Problem(
        loaded[0].file, 0, 0, "environments", f"{quoted(loaded[0].model)} does not go to {quoted(environment)}; {where}"
    )
