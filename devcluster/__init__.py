"""A real single-node Kubernetes for development and tests, without a container registry and without Docker.

``python3 -m devcluster up | down | status | kubeconfig | image`` from the root of a checkout; from Python:

>>> from devcluster import ensure_cluster
>>> cluster = ensure_cluster()          # adopts the running one in a second
>>> cluster.kubeconfig, cluster.node_ip
"""

from devcluster.ensure import Cluster, ensure_cluster
from devcluster.errors import DevclusterError, MissingRequirementError

__all__ = ["Cluster", "DevclusterError", "MissingRequirementError", "ensure_cluster"]
