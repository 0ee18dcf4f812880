"""Which model is meant (``ModelSelector``) and which one it turned out to be (``ResolvedModel``).

Decides what a legal selector is. How one is answered is the MLflow hook's business; this module does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

OnAmbiguous = Literal["latest", "fail"]

#: What ``uri`` may be. Aliases (``models:/name@prod``) are answered like ``registered_model`` + ``alias``.
_MODEL_URI = re.compile(
    r"(models:/m-[0-9a-f]{32}|models:/[^/@\s]+/\d+|models:/[^/@\s]+@[^/@\s]+|runs:/[0-9a-f]{32}(/\S+)?)"
)


@dataclass(frozen=True, kw_only=True)
class ModelSelector:
    """Choose a model in exactly one way.

    =====================================  ===========================================================
    ``experiment`` + ``run_tag``           newest finished run with all of these tags, ``{"stage": "prod"}``
    ``experiment`` + ``latest_run=True``   newest finished run
    ``registered_model`` + ``alias``       the version that the alias names now
    ``registered_model`` + ``version``     that version
    ``uri``                                ``models:/m-…``, ``models:/name/7``, ``models:/name@alias``,
                                           ``runs:/id/path`` or ``runs:/id`` (its only model, or ``logged_model``)
    =====================================  ===========================================================

    A run may be chosen with a ``registered_model`` beside it: the one whose versions a person may pick for a run.

    :param logged_model: name (or ``m-…`` ID) of the model, where a run has logged several.
    :param on_ambiguous: ``latest`` takes the newest of several runs, ``fail`` refuses; equal start times always fail.
    :raises ValueError: not exactly one way was chosen, or its parts are incomplete.
    """

    experiment: str | None = None
    run_tag: Mapping[str, str] | None = None
    latest_run: bool = False
    registered_model: str | None = None
    alias: str | None = None
    version: str | None = None
    uri: str | None = None
    logged_model: str | None = None
    on_ambiguous: OnAmbiguous = "latest"

    def __post_init__(self) -> None:
        ways = [
            way
            for way, chosen in {
                "run_tag": self.run_tag is not None,
                "latest_run": self.latest_run,
                "alias": self.alias is not None,
                "version": self.version is not None,
                "uri": self.uri is not None,
            }.items()
            if chosen
        ]
        if len(ways) != 1:
            found = " and ".join(ways) or "none"
            raise ValueError(
                f"choose the model in exactly one way (run_tag, latest_run, alias, version or uri), not {found}"
            )
        self._check_parts(ways[0])

    def _check_parts(self, way: str) -> None:
        if way in ("run_tag", "latest_run") and not self.experiment:
            raise ValueError(f"{way} needs the experiment whose runs are meant")
        if way in ("alias", "version") and not self.registered_model:
            raise ValueError(f"{way} needs the registered_model it belongs to")
        if way == "run_tag" and not self.run_tag:
            raise ValueError("run_tag is empty: name at least one tag, for example {'stage': 'prod'}")
        if way == "uri" and not _MODEL_URI.fullmatch(str(self.uri)):
            raise ValueError(
                f"uri {self.uri!r} is not a model URI: "
                "use models:/m-…, models:/name/7, models:/name@alias or runs:/<run id>/<path>"
            )
        if self.on_ambiguous not in ("latest", "fail"):
            raise ValueError(f"on_ambiguous is 'latest' or 'fail', not {self.on_ambiguous!r}")

    def to_dict(self) -> dict[str, Any]:
        """Return only what was chosen, as JSON types; ``ModelSelector(**d)`` is its inverse."""
        values = {field: getattr(self, field) for field in self.__dataclass_fields__}
        chosen = {key: value for key, value in values.items() if value not in (None, False)}
        if self.run_tag is not None:
            chosen["run_tag"] = dict(self.run_tag)
        return chosen

    def __str__(self) -> str:
        if self.uri:
            return self.uri
        if self.registered_model and (self.alias or self.version):
            return f"registered model {self.registered_model!r}, " + (
                f"alias {self.alias!r}" if self.alias else f"version {self.version}"
            )
        tags = ", ".join(f"{key}={value}" for key, value in (self.run_tag or {}).items())
        return f"experiment {self.experiment!r}, " + (f"tag {tags}" if tags else "latest run")


@dataclass(frozen=True, kw_only=True)
class ResolvedModel:
    """The one model that a selector meant at one moment. Everything in it stays true when tags and aliases move on.

    :param uri: immutable: ``models:/m-…``, ``models:/name/7`` or ``runs:/id/path``; never an alias, never a tag.
    :param source_uri: where the artifact lies, ends in ``/``.
    :param name: of the registered model, otherwise of the logged model.
    :param version: of the registered model; None where the model was not chosen through the registry.
    :param digest: ``sha256:<64 hex>`` of the artifact's ``MLmodel`` file.
    :param git_commit: of the training code, from the run's tag ``mlflow.source.git.commit``.
    :param run_url: page of the run in the MLflow UI.
    :param resolved_at: ISO 8601, UTC.
    """

    uri: str
    source_uri: str
    run_id: str | None
    experiment_id: str | None
    model_id: str | None
    name: str
    version: str | None
    digest: str
    git_commit: str | None
    run_url: str | None
    resolved_at: str

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types, for XCom, annotations and events; ``ResolvedModel(**d)`` is its inverse."""
        return asdict(self)
