"""Decides whether a model's requirements fit into an image before anything is deployed. Pure: two lists are compared.

Only what is known to break is a problem: a package that is missing, another major version (of ``0.x`` versions another
minor one), another minor version of Python. The rest is left to the server, which logs it. What the image holds is an
annotation of the serving runtime, written by ``mlops-runtime serving-runtime``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import Specifier
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

#: Where a ClusterServingRuntime says what its image holds: ``{"python": "3.11.2", "packages": {"pandas": "3.1.1"}}``.
PACKAGES_ANNOTATION = "airflow-mlops/packages"

_SAME = {"mlflow-skinny": "mlflow", "xgboost-cpu": "xgboost"}  # one import name, two distributions
#: scikit-learn and joblib import them where they happen to be installed; MLflow then notes them as required.
_DISPENSABLE = frozenset({"psutil", "pytest", "rich"})
_COMMENT = re.compile(r"(^|\s)#.*$")
_EGG = re.compile(r"[#&]egg=([A-Za-z0-9._-]+)")
_OLDEST_YEAR = 2000  # a version that starts with a year promises nothing about compatibility
_LINUX = {
    "extra": "",
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "sys_platform": "linux",
}


def compare_requirements(
    requirements_txt: str, python_version: str | None, runtime: Mapping[str, object]
) -> tuple[str, ...]:
    """Return what stands against running a model in an image, one text each; nothing does: an empty tuple.

    :param requirements_txt: the model's ``requirements.txt``. Options and files are passed over, as are addresses that
        do not name their package.
    :param python_version: the Python that the model was logged with, as in its ``MLmodel``; ``None``: not compared.
    :param runtime: ``python`` and ``packages`` of the image, see :data:`PACKAGES_ANNOTATION`.
    :raises ValueError: ``runtime`` has another shape.
    """
    python, packages = _read_runtime(runtime)
    problems = _compare_python(python_version, python)
    for requirement in _read_requirements(requirements_txt):
        if requirement.marker is not None and not requirement.marker.evaluate(_environment(python)):
            continue
        name = _name(requirement.name)
        if name in _DISPENSABLE:
            continue
        if name not in packages:
            problems.append(f"{requirement.name}{requirement.specifier} is missing in the runtime")
            continue
        reason = _compare_versions(requirement, packages[name])
        if reason:
            problems.append(reason)
    return tuple(dict.fromkeys(problems))


def _read_runtime(runtime: Mapping[str, object]) -> tuple[str, dict[str, str]]:
    python, packages = runtime.get("python"), runtime.get("packages")
    if not isinstance(python, str) or not isinstance(packages, Mapping):
        raise ValueError(
            f"the annotation {PACKAGES_ANNOTATION} of the serving runtime holds no python and packages; write the "
            "manifest anew with `mlops-runtime serving-runtime`"
        )
    return python, {_name(str(name)): str(version) for name, version in packages.items()}


def _name(name: str) -> str:
    canonical = str(canonicalize_name(name))
    return _SAME.get(canonical, canonical)


def _environment(python: str) -> dict[str, str]:
    return {**_LINUX, "python_full_version": python, "python_version": ".".join(python.split(".")[:2])}


def _compare_python(wanted: str | None, found: str) -> list[str]:
    if not wanted or wanted.split(".")[:2] == found.split(".")[:2]:
        return []
    return [f"Python: the model was logged with {wanted}, the runtime has {found}"]


def _read_requirements(text: str) -> Iterator[Requirement]:
    for line in re.sub(r"\\\r?\n", " ", text).splitlines():
        egg = _EGG.search(line)
        bare = _COMMENT.sub("", line).partition(" --")[0].strip()  # options behind a requirement are its hashes
        if not bare or bare.startswith("-"):
            continue
        try:
            yield Requirement(bare)
        except InvalidRequirement:  # an address, a path, or a wheel
            if egg:
                yield Requirement(egg.group(1))


def _compare_versions(requirement: Requirement, installed: str) -> str:
    try:
        version = Version(installed)
    except InvalidVersion:
        return ""
    for specifier in requirement.specifier:
        if not specifier.contains(version, prereleases=True) and _excludes(specifier, version):
            return f"{requirement.name}: the model needs {requirement.specifier}, the runtime has {installed}"
    return ""


def _excludes(specifier: Specifier, version: Version) -> bool:
    """Whether an unmet clause means another line of versions; an upper bound that is broken always does."""
    if specifier.operator in ("<", "<=", "!="):
        return True
    try:
        wanted = Version(specifier.version.removesuffix(".*"))
    except InvalidVersion:
        return True
    return _line(wanted) != _line(version)


def _line(version: Version) -> tuple[int, ...]:
    if version.major >= _OLDEST_YEAR:
        return (_OLDEST_YEAR,)
    return (version.epoch, version.major) if version.major else (version.epoch, 0, version.minor)
