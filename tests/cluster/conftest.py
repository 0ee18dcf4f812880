"""The real parts of the whole road, once per session: cluster, storage, MLflow, Git, Airflow, trained models."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from airflow_mlops_provider.demo.servers import AirflowServer, BareRepository, MlflowServer, git_bundle
from devcluster import Cluster, DevclusterError, ensure_cluster

# pytest's importlib mode knows no sibling modules.
sys.path.insert(0, str(Path(__file__).parent))
from lossy_proxy import LossyProxy
from service_account import Account, service_account

CLAIM = "scoring-data"
EXAMPLES = Path(__file__).parents[2] / "example_dags"
FAULT_DAGS = Path(__file__).with_name("dags")
#: Stands in every MLflow connection of these tests; ``test_secrets`` looks for it afterwards.
CANARY_TOKEN = "canary-3f9d1c7e5b"
COMMIT = "5c1e0b4e7d3f4b7f9d2a6c8e1f0a9b8c7d6e5f40"


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    """A cluster with the runtime image; CI may not do without, a laptop may."""
    try:
        return ensure_cluster(with_image=True)
    except DevclusterError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no cluster: {error}")


@dataclass(frozen=True)
class Storage:
    """A directory of this machine that pods see as ``/data`` through a claim."""

    namespace: str
    directory: Path


@pytest.fixture(scope="session")
def kube(cluster: Cluster) -> Any:
    from kubernetes import client, config

    return client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))


@pytest.fixture(scope="session")
def account(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """What all operators under test are to the API server; only fixtures and assertions are its administrator."""
    with service_account(cluster.kubeconfig, tmp_path_factory.mktemp("account")) as account:
        yield account


@pytest.fixture(scope="session")
def storage(kube: Any, account: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    """A namespace that admits ``restricted`` pods only, and a volume that this process reads too."""
    name = f"ml-test-{uuid.uuid4().hex[:8]}"
    directory = tmp_path_factory.mktemp("data")
    directory.chmod(0o777)
    for parent in directory.parents:
        parent.chmod(parent.stat().st_mode | 0o011)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    kube.create_namespace({"metadata": {"name": name, "labels": labels}})
    access: dict[str, Any] = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {
        **access,
        "capacity": {"storage": "1Gi"},
        "hostPath": {"path": str(directory)},
        "claimRef": {"namespace": name, "name": CLAIM},
    }
    kube.create_persistent_volume({"metadata": {"name": name}, "spec": volume})
    claim = {**access, "volumeName": name, "resources": {"requests": {"storage": "1Gi"}}}
    kube.create_namespaced_persistent_volume_claim(name, {"metadata": {"name": CLAIM}, "spec": claim})
    account.admit(name)
    yield Storage(name, directory)
    kube.delete_namespace(name)
    kube.delete_persistent_volume(name)


@pytest.fixture(scope="session")
def storage_secret(kube: Any, cluster: Cluster, storage: Storage, mlflow_server: MlflowServer) -> None:
    """What KServe's storage container needs to reach MLflow."""
    secret = {"MLFLOW_TRACKING_URI": f"http://{cluster.node_ip}:{mlflow_server.port}"}
    kube.create_namespaced_secret(storage.namespace, {"metadata": {"name": "mlops-mlflow"}, "stringData": secret})


@pytest.fixture(scope="session")
def mlflow_server(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    directory = tmp_path_factory.mktemp("mlflow") / "server"
    with MlflowServer(directory, "0.0.0.0", [cluster.node_ip]) as server:
        yield server


@dataclass(frozen=True)
class Trained:
    """A run with one model, and what that model says of the held-back rows."""

    run_id: str
    model_id: str
    rows: pd.DataFrame
    predictions: list[float]


class Trainer:
    """Trains real scikit-learn models on the breast-cancer data set and logs them as a person would."""

    def __init__(self, url: str) -> None:
        os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"  # a model needs scikit-learn, not all that this checkout locks
        import mlflow

        self.client = mlflow.MlflowClient(tracking_uri=url)
        self._url = url

    def train(self, experiment: str, *, seed: int, tags: dict[str, str] | None = None) -> Trained:
        """Return a finished run whose model differs with *seed*."""
        import mlflow
        from mlflow.models import infer_signature
        from sklearn.datasets import load_breast_cancer
        from sklearn.linear_model import LogisticRegression
        from sklearn.model_selection import train_test_split
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        features, labels = load_breast_cancer(as_frame=True, return_X_y=True)
        train_x, test_x, train_y, _ = train_test_split(features, labels, test_size=120, random_state=seed)
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1 * seed, max_iter=500)).fit(train_x, train_y)
        mlflow.set_tracking_uri(self._url)
        mlflow.set_experiment(experiment)
        with mlflow.start_run(tags={"mlflow.source.git.commit": COMMIT, **(tags or {})}) as run:
            info = mlflow.sklearn.log_model(
                model,
                name="model",
                signature=infer_signature(test_x, model.predict_proba(test_x)),
                input_example=test_x.head(2),
                pyfunc_predict_fn="predict_proba",
            )
        rows = test_x.reset_index(drop=True)
        expected = mlflow.pyfunc.load_model(info.model_uri).predict(rows)[:, 1]
        return Trained(run.info.run_id, info.model_id, rows, [float(value) for value in expected])


@pytest.fixture(scope="session")
def trainer(mlflow_server: MlflowServer) -> Trainer:
    return Trainer(mlflow_server.url)


@pytest.fixture(scope="session")
def served_models(trainer: Trainer) -> tuple[Trained, Trained]:
    """Two models that predict differently: runs of ``/tests/kserve`` with the tag ``stage`` one and two."""
    first = trainer.train("/tests/kserve", seed=1, tags={"stage": "one"})
    return first, trainer.train("/tests/kserve", seed=5, tags={"stage": "two"})


@dataclass(frozen=True)
class Road:
    """Everything together, as a platform would have set it up."""

    airflow: AirflowServer
    repository: BareRepository
    gitops: BareRepository
    storage: Storage
    node_ip: str

    def push(self, name: str, **fields: Any) -> None:
        """Push ``models/<name>.yaml``; *fields* are merged over a batch model of the test's own experiment."""
        declaration = {
            "apiVersion": "mlops/v1",
            "model": name,
            "owner": "tests@example.com",
            "experiment": f"/tests/{name}",
            **fields,
        }
        self.repository.commit_and_push({f"models/{name}.yaml": yaml.safe_dump(declaration)}, f"Declare {name}")


@pytest.fixture(scope="session")
def lossy_kubeconfig(account: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A kubeconfig whose API server loses the reply to every pod's first create request."""
    from kubernetes import config as kube_config

    with LossyProxy(kube_config.new_client_from_config(str(account.kubeconfig)).configuration) as proxy:
        file = tmp_path_factory.mktemp("lossy") / "kubeconfig"
        named = {"name": "lossy"}
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lossy",
            "clusters": [{**named, "cluster": {"server": proxy.url}}],
            "users": [{**named, "user": {}}],
            "contexts": [{**named, "context": {"cluster": "lossy", "user": "lossy"}}],
        }
        file.write_text(yaml.safe_dump(config))
        yield file


@pytest.fixture(scope="session")
def road(
    cluster: Cluster,
    account: Account,
    storage: Storage,
    mlflow_server: MlflowServer,
    lossy_kubeconfig: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Road]:
    directory = tmp_path_factory.mktemp("road")
    environments = directory / "environments.yaml"
    environments.write_text(yaml.safe_dump(_environments(cluster, storage, mlflow_server)))
    repository = BareRepository(directory / "git")
    gitops = BareRepository(directory / "gitops")
    gitops.commit_and_push({"README.md": "What Argo CD applies.\n"}, "Start")
    kubernetes = _kubernetes(account.kubeconfig, str(cluster.image))
    mlflow = {"conn_type": "mlflow", "host": mlflow_server.url, "password": CANARY_TOKEN}
    # The examples as they are, but for the platform's file.
    examples = Path(shutil.copytree(EXAMPLES, directory / "examples"))
    (examples / "environments.yaml").write_text(environments.read_text())
    with AirflowServer(
        directory / "airflow",
        [git_bundle(repository.url), _local_bundle("faults", FAULT_DAGS), _local_bundle("examples", examples)],
        {
            "mlflow_prod": mlflow,
            "k8s_prod": kubernetes,
            "k8s_lossy": _kubernetes(lossy_kubeconfig, str(cluster.image)),
            "gitops": {"conn_type": "git", "host": gitops.url},
        },
        {
            "AIRFLOW__MLOPS__ENVIRONMENTS_FILE": str(environments),
            "MLOPS_TEST_NAMESPACE": storage.namespace,
            "MLOPS_TEST_IMAGE": str(cluster.image),
            "EXAMPLE_NAMESPACE": storage.namespace,
            "EXAMPLE_IMAGE": str(cluster.image),
            "EXAMPLE_TRACKING_URI": f"http://{cluster.node_ip}:{mlflow_server.port}",
        },
        parallelism=6,
    ) as airflow:
        yield Road(airflow, repository, gitops, storage, cluster.node_ip)


def _local_bundle(name: str, path: Path) -> dict[str, Any]:
    classpath = "airflow.dag_processing.bundles.local.LocalDagBundle"
    return {"name": name, "classpath": classpath, "kwargs": {"path": str(path)}}


def _kubernetes(kubeconfig: Path, sidecar_image: str) -> dict[str, Any]:
    # The plain operator's sidecar comes from a registry by default; any image with a shell will do.
    extra = {"kube_config_path": str(kubeconfig), "xcom_sidecar_container_image": sidecar_image}
    return {"conn_type": "kubernetes", "extra": extra}


def _environments(cluster: Cluster, storage: Storage, mlflow: MlflowServer) -> dict[str, Any]:
    prod = {
        "runner": "kubernetes",
        "namespace": storage.namespace,
        "image": cluster.image,
        "image_pull_policy": "IfNotPresent",
        "model": {"run_tag": {"stage": "prod"}},
        "connections": {"mlflow": "mlflow_prod", "kubernetes": "k8s_prod"},
        "mlflow_tracking_uri": f"http://{cluster.node_ip}:{mlflow.port}",
        "volumes": [{"claim": CLAIM, "mount_path": "/data"}],
        "deferrable": False,
        "allow": {"jinja": ["ds"], "uri_schemes": ["file"], "commands": True, "max_cpu": "2", "max_memory": "4Gi"},
    }
    dev = {
        "runner": "local",
        "model": {"run_tag": {"stage": "dev"}},
        "connections": {"mlflow": "mlflow_prod"},
        "allow": {"jinja": ["ds"], "uri_schemes": ["file"]},
    }
    environments = {
        "dev": dev,
        "prod": prod,
        "deferred": {**prod, "deferrable": True},
        "gitops": {**prod, "deployer": "argocd", "argocd": {"connection": "gitops"}, "deferrable": True},
    }
    return {"apiVersion": "mlops/v1", "environments": environments}
