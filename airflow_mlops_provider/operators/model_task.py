"""What every step that applies a model shares, wherever the model then runs.

Decides which model a task instance uses and keeps to it (the pin), and what the program is told; which interval it
covers is decided by ``interval``. How the program runs is left to the operator that mixes this in. Does I/O through the
MLflow hook and Airflow's task state store, and only while a task runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from airflow_mlops_provider.declaration import ModelSelector, ResolvedModel
from airflow_mlops_provider.hooks.failing import permanent_errors_fail as permanent_errors_fail
from airflow_mlops_provider.manifests.contract import build_contract
from airflow_mlops_provider.operators.interval import data_interval, hand_on_interval, interval_context

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import jinja2
    from airflow.sdk import Context

    from airflow_mlops_provider.declaration.environment import Environment
    from airflow_mlops_provider.declaration.policy import Violation
    from airflow_mlops_provider.hooks.mlflow import MLflowHook

#: XCom key of the model a task instance used. Public.
RESOLVED_MODEL_KEY: Final = "resolved_model"
#: Key in the task state store, which outlives a try.
_PIN_KEY: Final = "pinned_model"

ModelArgument = ModelSelector | ResolvedModel | Mapping[str, Any] | str


class ModelTaskMixin:
    """Pin one model for a task instance and tell the program about it.

    :param model: which model: a :class:`ModelSelector` (or its fields as a dictionary), a model URI, or the
        :class:`ResolvedModel` that an earlier task resolved for all of its followers (as a dictionary too). (templated)
    :param mlflow_conn_id: connection of type ``mlflow``. (templated)
    :param environment: name of the environment, handed on as ``MLOPS_ENVIRONMENT``. (templated)
    :param tracking_uri: MLflow's address as the program sees it, where that differs from the connection's. (templated)
    :param input_uri: handed on as ``INPUT_URI``. (templated)
    :param output_uri: handed on as ``OUTPUT_URI``. (templated)
    :param partition: which part of the input this task instance takes, 0-based: ``.expand(partition=[0, 1, 2])``.
    :param partitions: how many task instances share the input.
    :param use_run_params: obey the run parameters ``model_version``, ``model_alias``, ``model_run_id``,
        ``data_interval_start`` and ``data_interval_end``, which the DAG factory puts into the trigger form.
    :param declared_params: names of further run parameters, handed on as ``PARAM_<NAME>``.
    """

    model_template_fields: Sequence[str] = (
        "model",
        "mlflow_conn_id",
        "environment",
        "tracking_uri",
        "input_uri",
        "output_uri",
    )

    model: ModelArgument
    mlflow_conn_id: str
    environment: str
    tracking_uri: str | None
    input_uri: str | None
    output_uri: str | None
    partition: int
    partitions: int
    use_run_params: bool
    declared_params: Sequence[str] = ()

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        # Here and not in render_template_fields, which a mapped task never calls.
        if parent is self:
            context = interval_context(context, use_run_params=self.use_run_params)
        super()._do_render_template_fields(parent, template_fields, context, jinja_env, seen_oids)  # type: ignore[misc]

    def pre_execute(self, context: Context) -> None:
        # Here and not in execute: a deferred task ends in another process, and only that one's events count.
        super().pre_execute(context)  # type: ignore[misc]
        with permanent_errors_fail():
            hand_on_interval(context, self.outlets, use_run_params=self.use_run_params)  # type: ignore[attr-defined]

    @cached_property
    def mlflow_hook(self) -> MLflowHook:
        from airflow_mlops_provider.hooks.mlflow import MLflowHook

        return MLflowHook(self.mlflow_conn_id)

    @cached_property
    def platform_settings(self) -> Environment | None:
        """What the platform allows in this task's environment; None where there is nothing to ask."""
        from airflow_mlops_provider.operators.platform_policy import find_platform_settings

        return find_platform_settings(
            self.environment,
            task=self._shown,
            dag_id=self.dag_id,  # type: ignore[attr-defined]
            declared=self.use_run_params,
        )

    @property
    def _shown(self) -> str:
        return f"task {self.task_id}"  # type: ignore[attr-defined]

    def refuse_forbidden_task(self, *, runner: str | None, **connections: str | None) -> None:
        """Refuse what the platform does not allow, before MLflow is asked or anything is built.

        :param runner: ``kubernetes`` or ``local``; None for a task that runs no program.
        :raises PolicyError: names the rules.
        """
        if self.platform_settings is None:
            return
        from airflow_mlops_provider.declaration.pod_policy import check_task

        chosen_here = _as_resolved(self.model) is None
        self.refuse(
            check_task(
                self.platform_settings,
                runner=runner or self.platform_settings.runner,
                connections={"mlflow": self.mlflow_conn_id, **connections},
                uris={"input_uri": self.input_uri, "output_uri": self.output_uri},
                model=_as_selector(self.model).to_dict() if chosen_here else None,
                tracking_uri=self.tracking_uri,
                partitions=self.partitions,
            )
        )

    def refuse(self, violations: Sequence[Violation]) -> None:
        """Raise if there are any.

        :raises PolicyError: names the rules.
        """
        from airflow_mlops_provider.operators.platform_policy import refuse_violations

        refuse_violations(violations, self.environment, task=self._shown)

    def pin_model(self, context: Context) -> ResolvedModel:
        """Return the model of this task instance: resolved by its first try, the same for every retry.

        Clearing the task resolves again; Airflow raises ``max_tries`` then, which a retry does not.

        :raises PermanentError: nothing answers the selector, or what was pinned is gone.
        :raises TransientError: MLflow did not answer in time.
        """
        given = _as_resolved(self.model)
        if given is None:
            given = self._pin_selected(self._selector(context), context)
        self._publish(given, context)
        return given

    def _pin_selected(self, selector: ModelSelector, context: Context) -> ResolvedModel:
        # ``airflow dags test`` has no state store: every try resolves, which is all it can do.
        store = context.get("task_state_store")
        mark: dict[str, Any] = {"selector": selector.to_dict(), "max_tries": context["ti"].max_tries}
        pin: Any = store.get(_PIN_KEY) if store is not None else None
        if isinstance(pin, dict) and all(pin.get(key) == value for key, value in mark.items()):
            model = ResolvedModel(**pin["model"])
            self.mlflow_hook.verify_model(model)
            self.log.info("Keeping the model that the first try pinned: %s", model.uri)  # type: ignore[attr-defined]
            return model
        model = self.mlflow_hook.resolve_model(selector)
        self.log.info("%s is %s (run %s, %s)", selector, model.uri, model.run_id, model.digest)  # type: ignore[attr-defined]
        if store is not None:
            store.set(_PIN_KEY, {**mark, "model": model.to_dict()})
        return model

    def _publish(self, model: ResolvedModel, context: Context) -> None:
        """Push the model and its links at once, so that they are there while the task still runs."""
        from airflow_mlops_provider.links.mlflow import push_model_links

        context["ti"].xcom_push(key=RESOLVED_MODEL_KEY, value=model.to_dict())
        push_model_links(context, model, self.mlflow_hook)

    def _selector(self, context: Context) -> ModelSelector:
        selector = _as_selector(self.model)
        return override_selector(selector, context["params"]) if self.use_run_params else selector

    def contract(self, model: ResolvedModel, context: Context) -> dict[str, str]:
        """Return the variables that the program receives; credentials are not among them."""
        start, end = data_interval(context, use_run_params=self.use_run_params)
        return build_contract(
            model.to_dict(),
            tracking_uri=self.tracking_uri or self.mlflow_hook.tracking_uri,
            environment=self.environment,
            data_interval=(start.isoformat(), end.isoformat()),
            partition=self.partition,
            partitions=self.partitions,
            input_uri=self.input_uri,
            output_uri=self.output_uri,
            parameters={name: context["params"][name] for name in self.declared_params},
        )


def _as_resolved(model: ModelArgument) -> ResolvedModel | None:
    if isinstance(model, ResolvedModel):
        return model
    if isinstance(model, Mapping) and "digest" in model:
        return ResolvedModel(**model)
    return None


def _as_selector(model: ModelArgument) -> ModelSelector:
    if isinstance(model, ModelSelector):
        return model
    return ModelSelector(uri=model) if isinstance(model, str) else ModelSelector(**model)  # type: ignore[arg-type]


def override_selector(selector: ModelSelector, params: Mapping[str, Any]) -> ModelSelector:
    """Return *selector*, or what the person who triggered the run chose instead of it.

    :raises ValueError: several choices at once, or a version or alias without a registered model.
    """
    chosen = {
        key: str(params[name]).strip()
        for key, name in {"version": "model_version", "alias": "model_alias", "run_id": "model_run_id"}.items()
        if params.get(name) not in (None, "")
    }
    if not chosen:
        return selector
    if len(chosen) > 1:
        raise ValueError(f"choose one of version, alias and run_id for the model, not {' and '.join(sorted(chosen))}")
    if "run_id" in chosen:
        return ModelSelector(uri=f"runs:/{chosen['run_id']}", logged_model=selector.logged_model)
    return ModelSelector(registered_model=selector.registered_model, **chosen)  # type: ignore[arg-type]
