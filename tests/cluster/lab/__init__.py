"""A real Kubernetes cluster on one machine, for tests: see README.md beside this file."""

from tests.cluster.lab.cluster import Cluster
from tests.cluster.lab.namespace import LabError

__all__ = ["Cluster", "LabError"]
