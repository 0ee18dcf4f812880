"""Deploying where Argo CD is the one writer of the cluster: commit what it shall apply, take it back if that fails.

Decides what is committed and when it is taken back. The manifest is the one that ``KServeDeployOperator`` would apply,
after the same checks; a sensor waits for it. Does I/O through the Git, MLflow and KServe hooks while a task runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowSkipException

from airflow_mlops_provider.hooks.failing import permanent_errors_fail
from airflow_mlops_provider.operators.kserve import KServeDeployOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlops_provider.declaration import ResolvedModel
    from airflow_mlops_provider.hooks.git import Publication

#: Key in the task state store, which outlives a try: what the file held before this task changed it.
_FORMER_KEY: Final = "gitops_former"


class KServeCommitOperator(KServeDeployOperator):
    """Commit the InferenceService to the repository that Argo CD reads, instead of applying it.

    Takes the arguments of :class:`~airflow_mlops_provider.operators.kserve.KServeDeployOperator`, too. What the file
    asks for already is not committed again; a retry still knows what was there before the first try.

    :param git_conn_id: connection of type ``git``, with the right to push.
    :param repository: address, where it is not the connection's.
    :param branch: must exist.
    :param directory: the service's directory is made in it.
    :return: ``{"name", "namespace", "spec_hash", "commit", "changed", "path", "former"}``; *former* is the text that
        the file held before, None where there was none.
    """

    def __init__(
        self, *, git_conn_id: str, directory: str, repository: str | None = None, branch: str = "main", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.git_conn_id = git_conn_id
        self.repository = repository
        self.branch = branch
        self.directory = directory

    def execute(self, context: Context) -> dict[str, Any]:
        """Build and check as for a deployment, then commit."""
        with permanent_errors_fail():
            self._check_arguments()
            self.refuse_forbidden_task(runner="kubernetes", kubernetes=self.kubernetes_conn_id)
            model = self.pin_model(context)
            manifest = self.build_manifest(model, context)
            self._refuse_forbidden_service(manifest)
            self._preflight(model, manifest)
            return self._commit(manifest, model, context)

    def _commit(self, manifest: Mapping[str, Any], model: ResolvedModel, context: Context) -> dict[str, Any]:
        from airflow_mlops_provider.manifests.batch_pod import build_model_annotations
        from airflow_mlops_provider.manifests.gitops import manifest_path, render_manifest, says_the_same
        from airflow_mlops_provider.manifests.inference_service_seal import seal
        from airflow_mlops_provider.manifests.naming import DAG_RUN_ANNOTATION

        lineage = {**build_model_annotations(model.to_dict()), DAG_RUN_ANNOTATION: context["run_id"]}
        sealed, spec_hash = seal(manifest, lineage)
        path = manifest_path(self.directory, self.name)
        memory = _Memory(context, spec_hash)

        def keep(_: str, there: str | None) -> bool:
            same = says_the_same(there, sealed)
            if not same:  # before the push: a try that dies right after it must not make the next one forget
                memory.keep(there)
            return same

        done = _publish(
            self,
            {path: render_manifest(sealed)},
            message=f"Serve {self.name} in {self.environment}: {model.uri}",
            trailers=_trailers(model, context),
            keep=keep,
        )
        changed, former = (True, done.former.get(path)) if done.changed else memory.recall()
        self.log.info("%s: %s at %s", path, "committed" if changed else "unchanged", done.commit)
        return {
            "name": self.name,
            "namespace": self.namespace,
            "spec_hash": spec_hash,
            "commit": done.commit,
            "changed": changed,
            "path": path,
            "former": former,
        }


def _trailers(model: ResolvedModel, context: Context) -> dict[str, str | None]:
    return {
        "Model-Uri": model.uri,
        "Model-Digest": model.digest,
        "Mlflow-Run": model.run_id,
        "Training-Commit": model.git_commit,
        "Dag-Run": f"{context['ti'].dag_id} {context['run_id']}",
    }


class _Memory:
    """What the file held before this task changed it, kept from one try to the next."""

    def __init__(self, context: Context, spec_hash: str) -> None:
        self._store: Any = context.get("task_state_store")  # ``airflow dags test`` has none
        self._mark = {"spec_hash": spec_hash, "max_tries": context["ti"].max_tries}

    def keep(self, former: str | None) -> None:
        if self._store is not None:
            self._store.set(_FORMER_KEY, {**self._mark, "former": former})

    def recall(self) -> tuple[bool, str | None]:
        """Return whether an earlier try changed the file, and what it held before."""
        kept = self._store.get(_FORMER_KEY) if self._store is not None else None
        if not isinstance(kept, dict) or any(kept.get(key) != value for key, value in self._mark.items()):
            return False, None
        return True, kept["former"]


class KServeRevertOperator(BaseOperator):
    """Take a commit of :class:`KServeCommitOperator` back, unless somebody has committed another service since.

    :param committed: what the commit's task returned. (templated)
    :param on_failure: ``rollback``: the former file comes back, if there was one; ``delete_if_created``: and where
        there was none, the file goes.
    :return: the commit that holds the former state.
    :raises AirflowSkipException: there is nothing to take back.
    """

    template_fields: Sequence[str] = ("committed",)
    ui_color = "#dcebf7"

    def __init__(
        self,
        *,
        committed: Mapping[str, Any],
        on_failure: str,
        git_conn_id: str,
        repository: str | None = None,
        branch: str = "main",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.committed = committed
        self.on_failure = on_failure
        self.git_conn_id = git_conn_id
        self.repository = repository
        self.branch = branch

    def execute(self, context: Context) -> str:
        """Commit what was there before."""
        from airflow_mlops_provider.manifests.gitops import spec_hash_in

        done = self.committed
        if not done or not done["changed"]:
            raise AirflowSkipException("nothing was committed that could be taken back")
        if done["former"] is None and self.on_failure != "delete_if_created":
            raise AirflowSkipException("there is no former version to go back to; the file stays as it is")
        with permanent_errors_fail():
            published = _publish(
                self,
                {done["path"]: done["former"]},
                message=f"Take {done['name']} back: its deployment failed",
                trailers={"Reverts": done["commit"], "Dag-Run": f"{context['ti'].dag_id} {context['run_id']}"},
                keep=lambda _, there: spec_hash_in(there) != done["spec_hash"],
            )
        if not published.changed:
            raise AirflowSkipException(f"{done['path']} asks for another service by now; not touched")
        self.log.info("%s: taken back at %s", done["path"], published.commit)
        return published.commit


def _publish(
    task: KServeCommitOperator | KServeRevertOperator, files: Mapping[str, str | None], **how: Any
) -> Publication:
    from airflow_mlops_provider.hooks.git import publish_files
    from airflow_mlops_provider.hooks.git_connection import open_branch

    with open_branch(task.git_conn_id, repository=task.repository, branch=task.branch) as branch:
        return publish_files(branch, files, **how)
