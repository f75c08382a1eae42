"""The small HTTP API of the processes."""

from controller.web.app import ReadArtifact, create_app
from controller.web.server import HttpServer

__all__ = ["HttpServer", "ReadArtifact", "create_app"]
