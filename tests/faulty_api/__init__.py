"""A small Kubernetes API in memory that misbehaves on request.

For tests of what a real kube-apiserver cannot be told to do. Without faults it behaves like the real one as far as this
project goes: ``tests/contract/test_api_server.py`` runs on both.
"""

from tests.faulty_api.kinds import Kind
from tests.faulty_api.server import FaultyApi

__all__ = ["FaultyApi", "Kind"]
