"""What is wrong with a template of the platform that each of its fields by itself does not show.

Decides that it holds no Jinja (the walls compare it with the pod as it is written), that names are given once and that
mounts have a volume. No I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from airflow_mlops_provider.declaration.environment import EnvironmentsFile
from airflow_mlops_provider.declaration.node import Path
from airflow_mlops_provider.declaration.rules import texts
from airflow_mlops_provider.declaration.template import has_template
from airflow_mlops_provider.declaration.wording import advice, quoted

if TYPE_CHECKING:
    from airflow_mlops_provider.declaration.pod_template import PodTemplate

#: Every pod has this volume and this container.
_TAKEN = ("tmp", "base")


def template_problems(file: EnvironmentsFile, templates: Mapping[str, PodTemplate]) -> Iterator[tuple[Path, str]]:
    """Yield path and message."""
    for name, template in templates.items():
        at = ("templates", name)
        for path, text in texts(template.model_dump(mode="json", by_alias=True), at):
            if has_template(text):
                yield path, "Jinja is not allowed in a template of the platform; write the value out"
        yield from _name_problems(template, at)
        for environment, settings in file.environments.items():
            if name in settings.allow.templates:
                yield from _volume_problems(template, at, environment, {item.claim for item in settings.volumes})


def _name_problems(template: PodTemplate, at: Path) -> Iterator[tuple[Path, str]]:
    kinds = {
        "volumes": [volume.name for volume in template.pod.volumes],
        "initContainers": [container.name for container in template.pod.init_containers],
    }
    for field, names in kinds.items():
        counted = Counter(names)
        for index, name in enumerate(names):
            if counted[name] > 1 or name in _TAKEN:
                message = f"{quoted(name)} is the name of another one in the pod; choose a name of its own"
                yield (*at, "pod", field, index, "name"), message


def _volume_problems(template: PodTemplate, at: Path, environment: str, claims: set[str]) -> Iterator[tuple[Path, str]]:
    own = {volume.name for volume in template.pod.volumes}
    for index, volume in enumerate(template.pod.volumes):
        if volume.name in claims:
            message = f"{quoted(volume.name)} is a volume of environment {quoted(environment)} too; rename it here"
            yield (*at, "pod", "volumes", index, "name"), message
    for path, mounts in template.all_mounts():
        for index, mount in enumerate(mounts):
            if mount.name not in own | claims:
                message = f"in {quoted(environment)}: there is no volume {quoted(mount.name)}"
                yield (*at, *path, index, "name"), f"{message}; {advice(mount.name, sorted(own | claims))}"
