"""What the connection to the API server is made with."""

from __future__ import annotations

from pathlib import Path

import pytest

from controller.runtime.transport import ConfigurationLoader


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Path:
    path = tmp_path / "kubeconfig"
    path.write_text(
        """
        current-context: it
        contexts: [{name: it, context: {cluster: it, user: me}}]
        clusters: [{name: it, cluster: {server: "https://api.example:6443"}}]
        users: [{name: me, user: {token: secret}}]
        """
    )
    return path


@pytest.mark.parametrize(
    ("environment", "proxy"),
    [
        ({}, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128"}, "http://proxy.example:3128"),
        ({"HTTP_PROXY": "http://proxy.example:3128"}, None),
        ({"HTTPS_PROXY": "http://proxy.example:3128", "NO_PROXY": ".example"}, None),
    ],
)
async def test_the_environment_names_the_proxy_and_nothing_else(
    kubeconfig: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], proxy: str | None
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"):
        for spelling in (name, name.lower()):
            monkeypatch.delenv(spelling, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    configuration = await ConfigurationLoader(str(kubeconfig), None).load()
    assert configuration.proxy == proxy
    assert configuration.client_session_kwargs == {"trust_env": False}, (
        "a netrc would stand against the token"
    )
