"""Fixtures shared by all tests, and a marker for each folder."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from devkit.controlplane import ControlPlane
from devkit.credentials import User
from devkit.envoy import Envoy
from devkit.prometheus import Prometheus
from devkit.toolchain import TESTED_WITH, Toolchain
from devkit.upstream import StaticUpstream

_TESTS = Path(__file__).parent
_MARKED_FOLDERS = frozenset(
    {"unit", "property", "contract", "integration", "simulation", "charts", "crds", "bench", "e2e"}
)
_REAL_PARTS = frozenset({"control_plane", "prometheus_factory"})

# How fast examples come says something about the machine, and nothing about what is tested.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        folder = item.path.relative_to(_TESTS).parts[0]
        if folder in _MARKED_FOLDERS:
            item.add_marker(folder)
        if folder == "simulation":
            # Thousands of virtual hours run the same lines again and again, at half the speed where each is noted.
            item.add_marker("no_cover")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Build here what is missing: it takes minutes, which no test's timeout allows for, and here it can be seen."""
    needed = any(
        item.get_closest_marker("integration")
        or item.get_closest_marker("e2e")
        or item.get_closest_marker("charts")
        or _REAL_PARTS & set(getattr(item, "fixturenames", ()))
        for item in session.items
    )
    if needed and not session.config.option.collectonly:
        capture = session.config.pluginmanager.getplugin("capturemanager")
        with capture.global_and_fixture_disabled():
            Toolchain().ensure(*TESTED_WITH)


@pytest.fixture(scope="session")
def control_plane() -> Iterator[ControlPlane]:
    """A Kubernetes API with our CRDs, for all tests; users alice (group developers) and bob may log in."""
    users = [User("alice", ("developers",)), User("bob")]
    with ControlPlane(users=users, controllers=True) as control_plane:
        crds = sorted(str(path) for path in (_TESTS.parent / "crds").glob("*.yaml"))
        if crds:
            control_plane.kubectl("apply", "--server-side", *(f"--filename={path}" for path in crds))
            control_plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", "--all")
        yield control_plane


@pytest.fixture
def namespace(control_plane: ControlPlane) -> Iterator[str]:
    """A namespace for one test; its deletion goes on after the test."""
    name = f"test-{secrets.token_hex(4)}"
    control_plane.kubectl("create", "namespace", name)
    yield name
    control_plane.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes, in reverse order, whatever servers a test entered into it."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def prometheus_factory(stack: ExitStack) -> Callable[..., Prometheus]:
    """Start a Prometheus for one test; the arguments are those of `Prometheus`."""
    return lambda *args, **kwargs: stack.enter_context(Prometheus(*args, **kwargs))


@pytest.fixture
def envoy_factory(stack: ExitStack) -> Callable[..., Envoy]:
    """Start an Envoy for one test; the arguments are those of `Envoy`."""
    return lambda *args, **kwargs: stack.enter_context(Envoy(*args, **kwargs))


@pytest.fixture
def upstream_factory(stack: ExitStack) -> Callable[..., StaticUpstream]:
    """Start an agent that is an Envoy with one answer; the arguments are those of `StaticUpstream`."""
    return lambda *args, **kwargs: stack.enter_context(StaticUpstream(*args, **kwargs))
