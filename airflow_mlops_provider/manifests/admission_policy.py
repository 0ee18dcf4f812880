"""The platform's rules as the API server enforces them: one ValidatingAdmissionPolicy for each environment.

Decides how a rule of ``environments.yaml`` reads in CEL. The last wall: it holds whatever created the pod. Rules about
what a pod does not show (connections, experiments, templates) stay with the walls before it. Pure, no I/O.
https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/ (v1.34)
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from airflow_mlops_provider.manifests.admission_frame import frame_rules
from airflow_mlops_provider.manifests.admission_templates import (
    affinity_condition,
    class_condition,
    judged_containers,
    volume_condition,
)
from airflow_mlops_provider.manifests.naming import MANAGED_BY, PREFIX, label_value

Settings = Mapping[str, Any]
#: Rule → CEL expression that is true where the rule is kept.
Rule = tuple[str, str]

_API: Final = "admissionregistration.k8s.io/v1"
_ENVIRONMENT_LABEL = f"object.metadata.?labels[?'{PREFIX}/environment'].orValue('')"
#: The API server adds these itself, after DefaultTolerationSeconds and by quality of service.
_OWN_TOLERATIONS = tuple(f"node.kubernetes.io/{name}" for name in ("not-ready", "unreachable", "memory-pressure"))
#: ``dyn``: to CEL's type checker the two kinds of containers are different types.
_VARIABLES = {
    "containers": "dyn(object.spec.containers) + dyn(object.spec.?initContainers.orValue([]))",
    # A container that runs beside the others counts with them; one that runs before them counts alone.
    "together": "dyn(object.spec.containers) + dyn(object.spec.?initContainers.orValue([])"
    ".filter(i, i.?restartPolicy.orValue('') == 'Always'))",
}
_STEERING = "^(PATH|PYTHON|LD_|DYLD_|BASH_ENV)"
#: What the standard runtime does in the pods of an online service.
_SERVING = (
    "(c.name == 'kserve-container' && size(c.?command.orValue([])) == 0 && c.?args[?0].orValue('') == 'serve')"
    " || (c.name == 'storage-initializer' && c.?command.orValue([]) == ['mlops-runtime', 'fetch'])"
)


def build_admission_policies(environments: Mapping[str, Settings]) -> list[dict[str, Any]]:
    """Return policies and bindings, ready to apply.

    A namespace that an environment names admits pods of its environments only, told by the label
    ``airflow-mlops/environment``, and each of them under the rules of its own.

    :param environments: name → an ``Environment`` as JSON types, ``{"prod": {"namespace": …, "allow": {…}}}``, with
        ``allow.commands`` and ``allow.uri_schemes`` filled in, and under ``templates`` what each template that it
        allows adds to a pod's spec. Those of the local runner have no pods.
    """
    in_pods = {name: item for name, item in environments.items() if item["runner"] == "kubernetes"}
    namespaces = sorted({item["namespace"] for item in in_pods.values()})
    objects = []
    for namespace in namespaces:
        names = [name for name, item in in_pods.items() if item["namespace"] == namespace]
        rule = ("environment", f"{_ENVIRONMENT_LABEL} in {_cel([label_value(name) for name in names])}")
        objects += _policy(f"mlops-namespace-{namespace}", namespace, [rule], f"namespace '{namespace}'")
    for name, item in in_pods.items():
        condition = f"{_ENVIRONMENT_LABEL} == {_cel(label_value(name))}"
        rules = list(environment_rules(item))
        variables = {"judged": judged_containers(item["templates"])}
        policy_name = f"mlops-environment-{name}"
        objects += _policy(policy_name, item["namespace"], rules, f"'{name}'", condition, variables)
    return objects


def environment_rules(settings: Settings) -> Iterator[Rule]:
    """Yield what every pod of an environment has to keep."""
    allow = settings["allow"]
    yield from _place_rules(settings)
    yield "images", _every(_image_is_allowed(settings, allow["images"]), "judged")
    yield "images", "size(object.spec.?ephemeralContainers.orValue([])) == 0"
    if allow["require_digest"]:
        yield (
            "require_digest",
            _every(f"c.image == {_cel(settings['image'])} || c.image.contains('@sha256:')", "judged"),
        )
    if not allow["commands"]:
        yield from _command_rules(settings["env"])
    yield from _resource_rules(allow)
    yield from _secret_rules(settings)
    yield from _volume_rules(settings["volumes"], settings["templates"])
    yield from _contract_rules(settings)
    yield from frame_rules()


def _place_rules(settings: Settings) -> Iterator[Rule]:
    account = settings["service_account"] or "default"
    yield "service_account", f"object.spec.?serviceAccountName.orValue('default') == {_cel(account)}"
    yield "node_selector", f"object.spec.?nodeSelector.orValue({{}}) == {_cel(settings['node_selector'])}"
    yield "node_selector", "request.operation != 'CREATE' || !has(object.spec.nodeName)"
    affinity = "object.spec.affinity.nodeAffinity"
    of_template = affinity_condition(settings["templates"], affinity)
    yield "node_selector", f"!has(object.spec.affinity) || !has({affinity}) || {of_template}"
    yield "priority_class", class_condition(settings["templates"], "priorityClassName")
    yield "runtime_class", class_condition(settings["templates"], "runtimeClassName")
    ours = [
        " && ".join(
            f"t.?{field}.orValue({_cel(default)}) == {_cel(item.get(field) or default)}"
            for field, default in (("key", ""), ("operator", "Equal"), ("value", ""), ("effect", ""))
        )
        for item in settings["tolerations"]
    ]
    allowed = " || ".join([f"t.?key.orValue('') in {_cel(_OWN_TOLERATIONS)}", *(f"({item})" for item in ours)])
    yield "tolerations", f"object.spec.?tolerations.orValue([]).all(t, {allowed})"


def _image_is_allowed(settings: Settings, allowed: Sequence[str]) -> str:
    """Say in CEL what ``declaration.policy.image_is_allowed`` says in Python."""
    # A tag or digest may follow the name of a repository; a port after a registry makes it another registry.
    patterns = [f"^{re.escape(entry)}{'' if entry.endswith('/') else '($|/|[:@][^/]*$)'}" for entry in allowed]
    return " || ".join([f"c.image == {_cel(settings['image'])}", *(f"c.image.matches({_cel(p)})" for p in patterns)])


def _command_rules(env: Mapping[str, str]) -> Iterator[Rule]:
    standard = "['mlops-runtime', 'score']"
    nothing_else = f"(!has(c.command) || c.command == [] || c.command == {standard})"
    yield "commands", _every(f"({nothing_else} && size(c.?args.orValue([])) == 0) || {_SERVING}", "judged")
    own = [f"(e.name == {_cel(name)} && e.?value.orValue('') == {_cel(value)})" for name, value in env.items()]
    steering = " || ".join([f"!e.name.upperAscii().matches('{_STEERING}')", *own])
    yield "commands", _every(f"c.?env.orValue([]).all(e, {steering})", "judged")


def _resource_rules(allow: Settings) -> Iterator[Rule]:
    for name in ("cpu", "memory"):
        if allow[f"max_{name}"] is None:
            continue
        limit = f"c.?resources.?limits[?'{name}']"
        most = f"quantity({_cel(allow[f'max_{name}'])}).asApproximateFloat()"
        amount = f"quantity({limit}.orValue('0')).asApproximateFloat()"
        yield f"max_{name}", _every(f"{limit}.hasValue() && {amount} <= {most}")
        yield f"max_{name}", f"variables.together.map(c, {amount}).sum() <= {most}"
    devices = (
        "c.?resources.?limits.orValue({}).filter(n, !(n in ['cpu', 'memory', 'ephemeral-storage'])"
        " && !n.startsWith('hugepages-'))"
    )
    amounts = f"{devices}.map(n, quantity(c.resources.limits[n]).asApproximateFloat()).sum()"
    yield "max_gpu", _every(f"{amounts} <= {float(allow['max_gpu'])}")
    yield "max_gpu", f"variables.together.map(c, {amounts}).sum() <= {float(allow['max_gpu'])}"
    yield "max_gpu", "size(object.spec.?resourceClaims.orValue([])) == 0"
    yield "max_cpu", "!has(object.spec.resources)"


def _secret_rules(settings: Settings) -> Iterator[Rule]:
    credentials = settings["mlflow_credentials"]
    allowed = "false"
    if credentials:
        allowed = f"e.valueFrom.secretKeyRef.?name.orValue('') == {_cel(credentials['secret'])}"
        if credentials["keys"]:
            allowed += f" && e.valueFrom.secretKeyRef.key in {_cel(sorted(set(credentials['keys'].values())))}"
    yield "secrets", _every_variable(f"!has(e.valueFrom) || !has(e.valueFrom.secretKeyRef) || ({allowed})")
    whole = "false"  # of KServe's storage container, which gets MLflow's credentials and nothing else
    if credentials and not credentials["keys"]:
        whole = f"c.name == 'storage-initializer' && f.secretRef.?name.orValue('') == {_cel(credentials['secret'])}"
    yield "secrets", _every(f"c.?envFrom.orValue([]).all(f, !has(f.secretRef) || ({whole}))")
    yield (
        "secrets",
        (
            "object.spec.?imagePullSecrets.orValue([]).all(s, "
            f"s.?name.orValue('') in {_cel(settings['image_pull_secrets'])})"
        ),
    )
    secret = f"({volume_condition(settings['templates'], 'secret')})"
    in_projection = "has(v.projected) && v.projected.?sources.orValue([]).exists(s, has(s.secret))"
    yield "secrets", f"object.spec.?volumes.orValue([]).all(v, (!has(v.secret) || {secret}) && !({in_projection}))"
    yield "config_maps", _every("c.?envFrom.orValue([]).all(f, !has(f.configMapRef))")
    yield "config_maps", _every_variable("!has(e.valueFrom) || !has(e.valueFrom.configMapKeyRef)")


def _volume_rules(volumes: Sequence[Settings], templates: Sequence[Settings]) -> Iterator[Rule]:
    claims = [
        f"v.persistentVolumeClaim.claimName == {_cel(item['claim'])}"
        + (" && v.persistentVolumeClaim.?readOnly.orValue(false)" if item["read_only"] else "")
        for item in volumes
    ]
    claimed = " || ".join(f"({item})" for item in claims) or "false"
    # What the API server itself mounts: the service account's token and the cluster's certificate.
    projected = (
        "v.projected.?sources.orValue([]).all(s, s.?configMap.?name.orValue('kube-root-ca.crt') == 'kube-root-ca.crt')"
    )
    yield (
        "volumes",
        (
            "object.spec.?volumes.orValue([]).all(v, has(v.emptyDir) || has(v.downwardAPI) || has(v.secret)"
            f" || (has(v.persistentVolumeClaim) && ({claimed})) || (has(v.projected) && {projected})"
            f" || {volume_condition(templates)})"
        ),
    )


def _contract_rules(settings: Settings) -> Iterator[Rule]:
    """Yield what the contract's variables show of data and server."""
    schemes = "|".join(re.escape(scheme) for scheme in settings["allow"]["uri_schemes"])
    pattern = f"^(?i:{schemes}):" if schemes else "^$"
    plain = "|| !e.value.matches('^[A-Za-z][A-Za-z0-9+.-]+:')" if "file" in settings["allow"]["uri_schemes"] else ""
    yield (
        "uri_schemes",
        _every_variable(
            f"!(e.name in ['INPUT_URI', 'OUTPUT_URI']) || !has(e.value) || e.value.matches({_cel(pattern)}) {plain}"
        ),
    )
    if settings["mlflow_tracking_uri"]:
        uri = settings["mlflow_tracking_uri"].replace("$(", "$$(")
        yield (
            "mlflow_tracking_uri",
            _every_variable(f"e.name != 'MLFLOW_TRACKING_URI' || e.?value.orValue('') == {_cel(uri)}"),
        )
    yield (
        "max_partitions",
        _every_variable(
            "e.name != 'MLOPS_PARTITIONS' || (e.?value.orValue('').matches('^[0-9]{1,9}$')"
            f" && int(e.value) <= {settings['allow']['max_partitions']})"
        ),
    )


def _every(condition: str, containers: str = "containers") -> str:
    return f"variables.{containers}.all(c, {condition})"


def _every_variable(condition: str) -> str:
    return _every(f"c.?env.orValue([]).all(e, {condition})")


def _cel(value: Any) -> str:
    """Return a value as a CEL literal: JSON, but for null, is one."""
    return "''" if value is None else json.dumps(value, ensure_ascii=False)


def _policy(
    name: str,
    namespace: str,
    rules: Sequence[Rule],
    where: str,
    condition: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    metadata = {"name": name, "labels": {"app.kubernetes.io/managed-by": MANAGED_BY}}
    # Airflow and Kubernetes label and finalize pods that were there before the policy: only another spec is judged.
    conditions = [{"name": "new-spec", "expression": "request.operation == 'CREATE' || object.spec != oldObject.spec"}]
    if condition:
        conditions.append({"name": "environment", "expression": condition})
    match = {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "resourceRules": [
            {
                "apiGroups": [""],
                "apiVersions": ["v1"],
                "operations": ["CREATE", "UPDATE"],
                "resources": ["pods", "pods/ephemeralcontainers", "pods/resize"],
            }
        ],
    }
    expressions = {**_VARIABLES, **(variables or {})}
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": match,
        "matchConditions": conditions,
        "variables": [{"name": key, "expression": expression} for key, expression in expressions.items()],
        "validations": [
            {"expression": expression, "message": f"in {where}: not allowed [{rule}]", "reason": "Forbidden"}
            for rule, expression in rules
        ],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    return [
        {"apiVersion": _API, "kind": "ValidatingAdmissionPolicy", "metadata": metadata, "spec": spec},
        {"apiVersion": _API, "kind": "ValidatingAdmissionPolicyBinding", "metadata": metadata, "spec": binding},
    ]
