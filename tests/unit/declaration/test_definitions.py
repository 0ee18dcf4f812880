from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlops_provider.declaration import load_declaration, load_environments
from airflow_mlops_provider.exceptions import DeclarationError

DECLARATIONS = Path(__file__).parents[2] / "declarations"
NOTIFIERS = """
apiVersion: mlops/v1
notifiers:
  mail: {class: airflow.providers.smtp.notifications.smtp.SmtpNotifier, arguments: {to: me@example.com}}
  nonsense: {class: "os; system", argument: {}}
environments:
  dev:
    runner: local
    model: {latest_run: true}
    notify: {on_failure: [mial], on_success: [mail]}
    allow: {notifiers: [mail, chat]}
"""


def _problems(text: str, folder: Path) -> list[str]:
    file = folder / "environments.yaml"
    file.write_text(text)
    with pytest.raises(DeclarationError) as refused:
        load_environments(file)
    return [line.removeprefix(f"{folder}/") for line in str(refused.value).splitlines()]


def test_definitions_are_checked_like_everything_else(tmp_path: Path) -> None:
    assert _problems(NOTIFIERS, tmp_path) == [
        "environments.yaml:5:21: notifiers.nonsense.class: is not spelt as it must be; it has to match "
        r"^[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)+$",
        "environments.yaml:5:35: notifiers.nonsense.argument: unknown field; did you mean 'arguments'? "
        "(use class or arguments)",
    ]


def test_names_that_nobody_defined_are_told_where_they_stand(tmp_path: Path) -> None:
    text = "".join(line for line in NOTIFIERS.splitlines(keepends=True) if "nonsense" not in line)
    assert _problems(text, tmp_path) == [
        "environments.yaml:9:27: environments.dev.notify.on_failure.0: 'mial' is not defined under notifiers; use mail",
        "environments.yaml:10:31: environments.dev.allow.notifiers.1: 'chat' is not defined under notifiers; use mail",
    ]


def test_a_declaration_that_says_nothing_gets_the_environments_notifiers() -> None:
    environments = load_environments(DECLARATIONS / "environments.yaml")
    test, prod = load_declaration(DECLARATIONS / "valid" / "notify.yaml", environments)
    told = {}
    for model in (test, prod):
        assert model.batch is not None
        chosen = model.settings.notifiers_for(model.batch.notify)
        told[model.environment] = {event: [item.name for item in items] for event, items in chosen.items()}
    assert told == {
        "test": {"on_failure": ["growth-mail"], "on_success": ["growth-mail"]},
        "prod": {"on_failure": ["ops-mail"], "on_success": []},
    }


TEMPLATES = """
apiVersion: mlops/v1
templates:
  wrong:
    pod:
      hostNetwork: true
      volumes:
        - {name: host, hostPath: {path: /}}
        - {name: two, emptyDir: {}, secret: {secretName: x}}
        - {name: tmp, emptyDir: {}}
        - {name: data, emptyDir: {}}
      volumeMounts: [{name: data, mountPath: data}, {name: dta, mountPath: /x}]
      initContainers:
        - {name: base, image: "x:1", command: ["{{ ds }}"], resources: {limits: {cpu: 1, memory: 1Gi}}}
        - {name: free, image: "x:1", securityContext: {privileged: true}}
environments:
  test:
    namespace: ml-test
    model: {latest_run: true}
    volumes: [{claim: data, mount_path: /data}]
    allow: {templates: [wrong, lost]}
"""


def test_template_cannot_leave_the_frame(tmp_path: Path) -> None:
    assert _problems(TEMPLATES, tmp_path) == [
        "environments.yaml:6:7: templates.wrong.pod.hostNetwork: unknown field; use volumes, volumeMounts, "
        "initContainers, affinity, topologySpreadConstraints, runtimeClassName, priorityClassName or "
        "terminationGracePeriodSeconds",
        "environments.yaml:8:24: templates.wrong.pod.volumes.0.hostPath: unknown field; use name, emptyDir, "
        "persistentVolumeClaim, ephemeral, configMap or secret",
        "environments.yaml:9:11: templates.wrong.pod.volumes.1: must have exactly one of emptyDir, "
        "persistentVolumeClaim, ephemeral, configMap or secret; {} is a value too",
        "environments.yaml:12:46: templates.wrong.pod.volumeMounts.0.mountPath: is not spelt as it must be; it has to "
        "match ^/[^:]*[^/:]$",
        "environments.yaml:15:11: templates.wrong.pod.initContainers.1.resources: is missing; add it",
        "environments.yaml:15:38: templates.wrong.pod.initContainers.1.securityContext: unknown field; use name, "
        "image, command, args, env, resources or volumeMounts",
    ]


def test_template_must_fit_the_environments_that_allow_it(tmp_path: Path) -> None:
    dropped = ("hostNetwork", "hostPath", "name: two", "name: free")
    lines = [line for line in TEMPLATES.splitlines(keepends=True) if not any(item in line for item in dropped)]
    assert _problems("".join(lines).replace("mountPath: data", "mountPath: /d"), tmp_path) == [
        "environments.yaml:7:18: templates.wrong.pod.volumes.0.name: 'tmp' is the name of another one in the pod; "
        "choose a name of its own",
        "environments.yaml:8:18: templates.wrong.pod.volumes.1.name: 'data' is a volume of environment 'test' too; "
        "rename it here",
        "environments.yaml:9:58: templates.wrong.pod.volumeMounts.1.name: in 'test': there is no volume 'dta'; "
        "did you mean 'data'? (use data or tmp)",
        "environments.yaml:11:18: templates.wrong.pod.initContainers.0.name: 'base' is the name of another one in the "
        "pod; choose a name of its own",
        "environments.yaml:11:48: templates.wrong.pod.initContainers.0.command.0: Jinja is not allowed in a template "
        "of the platform; write the value out",
        "environments.yaml:17:32: environments.test.allow.templates.1: 'lost' is not defined under templates; "
        "use wrong",
    ]
