"""The operator's small HTTP API."""

from controller.web.app import create_app
from controller.web.server import HttpServer

__all__ = ["HttpServer", "create_app"]
