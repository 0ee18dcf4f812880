"""Declared notifiers as a DAG's callbacks.

Decides when their code is imported: for a DAG that uses one, and then only. What is wrong with a definition is told at
its line in the platform's file. Imports what that file names; no network.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.declaration.notifier import DefinedNotifier
from airflow_mlops_provider.declaration.shared_spec import Notify
from airflow_mlops_provider.declaration.wording import quoted
from airflow_mlops_provider.exceptions import DeclarationError, Problem

if TYPE_CHECKING:
    from airflow.sdk.bases.notifier import BaseNotifier


def build_callbacks(model: EnvironmentModel, notify: Notify) -> dict[str, Any]:
    """Return arguments of the DAG, ``{"on_failure_callback": […]}``; empty where nobody is to be told.

    :raises DeclarationError: a notifier cannot be made; at its line in ``environments.yaml``.
    """
    return {
        f"{event}_callback": [_build(definition) for definition in definitions]
        for event, definitions in model.settings.notifiers_for(notify).items()
        if definitions
    }


def _build(definition: DefinedNotifier) -> BaseNotifier:
    from airflow.sdk.bases.notifier import BaseNotifier

    module, _, name = definition.class_path.rpartition(".")
    try:
        notifier_class = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise _refusal(definition, f"cannot be imported here: {error}; install its package or correct it") from error
    if not (isinstance(notifier_class, type) and issubclass(notifier_class, BaseNotifier)):
        raise _refusal(definition, "is no notifier of Airflow's; name a subclass of airflow.sdk.BaseNotifier")
    try:
        return notifier_class(**definition.arguments)
    except TypeError as error:  # names the arguments, never their values
        raise _refusal(definition, f"does not take these arguments: {error}; correct arguments") from error
    except Exception as error:  # whatever foreign code thinks of its arguments, and nothing of their values
        message = f"cannot be made with these arguments ({type(error).__name__}); correct arguments"
        raise _refusal(definition, message) from None


def _refusal(definition: DefinedNotifier, message: str) -> DeclarationError:
    field = f"notifiers.{definition.name}.class"
    problem = f"{quoted(definition.class_path)} {message}"
    return DeclarationError([Problem(definition.file, definition.line, definition.column, field, problem)])
