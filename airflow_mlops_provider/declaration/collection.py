"""What is wrong between files, where each by itself is right.

Decides when two files declare the same model, when a job waits for one that nobody declares, and when jobs wait for one
another. Which files belong together is the caller's knowledge. :func:`read_names` reads a file, the rest does no I/O.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from airflow_mlops_provider.declaration.jobs import MAIN_JOB, job_path, read_reference, reference_to
from airflow_mlops_provider.declaration.loader import EnvironmentModel
from airflow_mlops_provider.declaration.node import MappingNode, ScalarNode, dotted, find_value, is_null, merge, without
from airflow_mlops_provider.declaration.wording import advice, quoted
from airflow_mlops_provider.declaration.yaml_document import read_document
from airflow_mlops_provider.exceptions import DeclarationError, Problem

_SHOWN_DAGS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredNames:
    """What one file calls its own.

    :param line: where the model is named.
    :param dag_ids: in the order of its environments.
    """

    file: str
    line: int
    model: str
    dag_ids: tuple[str, ...]


def names_of(models: Sequence[EnvironmentModel]) -> DeclaredNames:
    """Return the names of a valid file."""
    place = find_value(models[0].written, ("model",))
    ids = tuple(dag_id for model in models for dag_id in model.dag_ids())
    return DeclaredNames(file=place.file, line=place.line, model=models[0].model, dag_ids=ids)


def read_names(path: Path) -> DeclaredNames | None:
    """Return the names in a file that has problems, or None where they cannot be made out."""
    try:
        root = read_document(path).root
    except DeclarationError:
        return None
    model, environments = root.fields.get("model"), root.fields.get("environments")
    if not isinstance(model, ScalarNode) or not isinstance(model.value, str):
        return None
    ids: list[str] = []
    base = without(root, "environments")
    for name, overlay in environments.fields.items() if isinstance(environments, MappingNode) else ():
        merged = merge(base, overlay) if isinstance(overlay, MappingNode) else base
        ids += [f"{name}.{model.value}.{kind}" for kind in _kinds_in(merged)]
    place = find_value(root, ("model",))
    return DeclaredNames(file=place.file, line=place.line, model=model.value, dag_ids=tuple(ids))


def _kinds_in(merged: MappingNode) -> Iterator[str]:
    if not is_null(merged.fields.get(MAIN_JOB)):
        yield MAIN_JOB
    jobs = merged.fields.get("batch_jobs")
    yield from (f"{MAIN_JOB}.{name}" for name in jobs.fields) if isinstance(jobs, MappingNode) else ()
    if not is_null(merged.fields.get("online")):
        yield "online"


def duplicate_problems(files: Iterable[DeclaredNames], *, same_dags: bool = False) -> Iterator[Problem]:
    """Yield a problem for every file whose model another file declares too.

    :param same_dags: only where both would make the same DAG.
    """
    by_model: defaultdict[str, list[DeclaredNames]] = defaultdict(list)
    for names in files:
        by_model[names.model].append(names)
    for group in by_model.values():
        for here in group:
            for there in group:
                if there is not here and (not same_dags or set(here.dag_ids) & set(there.dag_ids)):
                    yield _duplicate(here, there)
                    break


def _duplicate(here: DeclaredNames, there: DeclaredNames) -> Problem:
    common = [dag_id for dag_id in here.dag_ids if dag_id in there.dag_ids]
    more = f" and {len(common) - _SHOWN_DAGS} more" if len(common) > _SHOWN_DAGS else ""
    ids = f" (both would make {', '.join(common[:_SHOWN_DAGS])}{more})" if common else ""
    message = f"{quoted(here.model)} is also declared in {there.file}:{there.line}{ids}; rename one of them"
    return Problem(here.file, here.line, 1, "model", message)


def waiting_problems(
    models: Sequence[EnvironmentModel], dag_ids: Collection[str], unreadable: Collection[str] = ()
) -> Iterator[Problem]:
    """Yield what is wrong with ``after`` among models that are all there is.

    :param dag_ids: of every file, those with problems of their own included.
    :param unreadable: names of models that may be declared in files that cannot be read.
    """
    for model in models:
        for kind, spec in model.batch_jobs().items():
            for reference in spec.after:
                wanted, _ = read_reference(reference)
                if _waited_for(model, reference) not in dag_ids and wanted not in unreadable:
                    yield _problem_with_after(model, kind, _nobody(model, kind, reference, dag_ids))
    yield from _circles(models)


def _waited_for(model: EnvironmentModel, reference: str) -> str:
    name, kind = read_reference(reference)
    return f"{model.environment}.{name}.{kind}"


def _nobody(model: EnvironmentModel, kind: str, reference: str, dag_ids: Collection[str]) -> str:
    """Say that nobody declares a job, and which one was meant."""
    here = (dag_id for dag_id in dag_ids if dag_id.partition(".")[0] == model.environment)
    jobs = (dag_id for dag_id in here if dag_id.split(".")[2] == MAIN_JOB and dag_id != model.dag_id(kind))
    known = sorted(reference_to(dag_id) for dag_id in jobs)
    name, job = reference.partition(".")[::2]
    found = f"{quoted(name)} has no batch job {quoted(job)}" if job else f"no model {quoted(name)} has a batch job"
    return f"{found} here; {advice(reference, known)}"


def _circles(models: Sequence[EnvironmentModel]) -> Iterator[Problem]:
    by_id = {model.dag_id(kind): (model, kind, spec) for model in models for kind, spec in model.batch_jobs().items()}
    graphs: defaultdict[str, dict[str, list[str]]] = defaultdict(dict)
    for dag_id, (model, _, spec) in by_id.items():
        graphs[model.environment][dag_id] = [_waited_for(model, reference) for reference in spec.after]
    for graph in graphs.values():
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            circle: list[str] = error.args[1]
            shown = " → ".join(reference_to(dag_id) for dag_id in circle)
            model, kind, _ = by_id[circle[0]]
            yield _problem_with_after(model, kind, f"waits for itself: {shown}; remove one of them")


def _problem_with_after(model: EnvironmentModel, kind: str, message: str) -> Problem:
    field = dotted((*job_path(kind), "after"))
    file, line = model.origin[field]
    return Problem(file, line, 1, field, f"in {quoted(model.environment)}: {message}")
