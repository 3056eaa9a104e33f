"""Figures for Prometheus: kept in memory, collected on request, served over HTTP beside the probes."""

from .collector import Sources, registry_of
from .figures import Figures
from .server import address_of, start_server, stop_server

__all__ = ["Figures", "Sources", "address_of", "registry_of", "start_server", "stop_server"]
