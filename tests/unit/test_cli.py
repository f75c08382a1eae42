from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from controller.cli import app
from controller.settings import Address
from tests.integration.certificates import Authority


def run(*arguments: str, **environment: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "TERM": "dumb", **environment})
    return result.exit_code, re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]", " ", result.output))


def test_the_version_is_printed() -> None:
    code, output = run("version")
    assert code == 0
    assert re.match(r"\d+\.\d+\.\d+", output)


def commands(command: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """Every command that can be given, by its words."""
    if not hasattr(command, "commands"):
        yield path
        return
    for name, inner in command.commands.items():
        yield from commands(inner, *path, name)


@pytest.mark.parametrize("words", list(commands(typer.main.get_command(app))), ids=" ".join)
def test_the_help_of_every_command_has_an_example(words: tuple[str, ...]) -> None:
    code, output = run(*words, "--help")
    assert code == 0
    assert f"Example: agentrollout {' '.join(words)}" in output


def test_the_command_is_a_plugin_of_kubectl_by_its_second_name() -> None:
    plugin = Path(sys.executable).with_name("kubectl-agentrollout")
    printed = subprocess.run([plugin, "lint", "--help"], check=True, capture_output=True, text=True).stdout
    assert "Usage: kubectl agentrollout lint" in printed


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "Missing option '--prometheus-url'"),
        (["--prometheus-url", "localhost:9090"], "write http://host:port"),
        (
            ["--prometheus-url", "http://p", "--xds-address", "18000"],
            "write host:port, such as 127.0.0.1:8080",
        ),
        (["--prometheus-url", "http://p", "--http-address", "a:99999"], "write host:port"),
        (["--prometheus-url", "http://p", "--allowed-url-host", "http://a.example:80/"], "write a.example"),
        (["--prometheus-url", "http://p", "--allowed-host", "Shop=a.example"], "not the name of a namespace"),
        (["--prometheus-url", "http://p", "--router-tls-cert-file", "a.crt"], "give both or none"),
        (["--prometheus-url", "http://p", "--xds-tls-ca-file", "a.crt"], "give all three or none"),
        (
            ["--prometheus-url", "http://p", "--secret-hmac-key-file", "/nowhere/key"],
            "/nowhere/key: No such file",
        ),
        (
            ["--prometheus-url", "http://p", "--secret-hmac-key-file", "/dev/null"],
            "/dev/null has 0 bytes, and at least 32 are needed: write some with `openssl rand",
        ),
        (["--prometheus-url", "http://p", "--prometheus-url", "p:9090"], "not a URL of HTTP"),
        (
            ["--prometheus-url", "http://p", "--prometheus-http-config-file", "/nowhere/http.yaml"],
            "/nowhere/http.yaml: No such file",
        ),
        (["--prometheus-url", "http://p", "--log-format", "xml"], "'xml' is not one of"),
        (["--prometheus-url", "http://p", "--log-level", "loud"], "'loud' is not one of"),
    ],
)
def test_a_wrong_setting_is_named_with_the_way_out(arguments: list[str], says: str) -> None:
    code, output = run("operator", *arguments)
    assert code == 2
    assert says in output


def test_several_urls_in_the_environment_are_separated_by_spaces() -> None:
    code, output = run("operator", AGENTROLLOUT_PROMETHEUS_URL="http://a:9090 b:9090")
    assert code == 2
    assert "not a URL of HTTP" in output


def test_a_kubeconfig_that_is_not_there_is_told_in_a_sentence() -> None:
    code, output = run("operator", "--prometheus-url", "http://p", "--kubeconfig", "/nowhere/config")
    assert code == 2
    assert "/nowhere/config" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:8080", "127.0.0.1", 8080), ("[::1]:0", "::1", 0), (":80", "0.0.0.0", 80)],
)
def test_an_address_is_read(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)


def test_an_address_is_written_as_it_is_read() -> None:
    for address in (Address("::1", 80), Address("127.0.0.1", 80)):
        assert Address.parse(str(address)) == address


def test_the_bootstrap_of_a_router_is_printed() -> None:
    result = CliRunner().invoke(
        app, ["router", "bootstrap", "--node-id", "router-0", "--xds-address", "operator.example:18000"]
    )
    printed = json.loads(result.output)
    assert printed["node"]["id"] == "router-0"
    assert printed["admin"]["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 9901}
    assert printed["static_resources"]["listeners"] == []


BOOTSTRAP = ("router", "bootstrap", "--node-id", "router-0", "--xds-address", "operator.example:18000")
GLASS = ("--break-glass-cert", "c", "--break-glass-key", "k", "--break-glass-ca", "a")


def test_a_router_may_open_two_doors_to_its_admin_interface() -> None:
    more = ("--metrics-address", ":9902", "--break-glass-address", ":9903", *GLASS)
    printed = json.loads(CliRunner().invoke(app, [*BOOTSTRAP, *more]).output)

    ports = [
        each["address"]["socket_address"]["port_value"] for each in printed["static_resources"]["listeners"]
    ]
    assert ports == [9902, 9903]


@pytest.mark.parametrize(
    "more", [GLASS, ("--break-glass-address", ":9903"), (*GLASS[:4], "--break-glass-address", ":1")]
)
def test_break_glass_is_set_up_wholly_or_not_at_all(more: tuple[str, ...]) -> None:
    code, output = run(*BOOTSTRAP, *more)
    assert code == 2
    assert "give all four or none" in output


def test_a_bootstrap_with_certificates_brings_the_files_that_lead_to_them(tmp_path: Path) -> None:
    tls = ("--xds-cert=/tls/tls.crt", "--xds-key=/tls/tls.key", "--xds-ca=/tls/ca.crt")
    code, output = run(*BOOTSTRAP, *tls)
    assert code == 2
    assert "give all four or none" in output

    code, output = run(*BOOTSTRAP, *tls, f"--xds-secrets={tmp_path / 'nowhere'}")
    assert code == 2
    assert "--xds-secrets: [Errno 2] No such file" in output

    code, output = run(*BOOTSTRAP, *tls, f"--xds-secrets={tmp_path}")
    assert code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["xds-authority.json", "xds-certificate.json"]


@pytest.mark.parametrize(
    "url", ["http://10.0.0.7:9903", "10.0.0.7:9903", "https://", "https://a:1/runtime_modify"]
)
def test_break_glass_wants_the_address_of_a_router(url: str) -> None:
    code, output = run("router", "break-glass", "agent", "--router", url, "--cert=c", "--key=k", "--ca=a")
    assert code == 2
    assert "write https://host:port" in output


def test_break_glass_says_which_file_cannot_be_used(tmp_path: Path) -> None:
    arguments = (
        "router",
        "break-glass",
        "agent",
        "--router=https://10.0.0.7:9903",
        "--cert=/none.crt",
        "--key=/none.key",
    )
    code, output = run(*arguments, "--ca=/none.ca")
    assert code == 2
    assert "/none.ca cannot be used as CA" in output

    authority = Authority(tmp_path).file
    code, output = run(*arguments, f"--ca={authority}")
    assert code == 2
    assert "/none.crt and /none.key cannot be used as certificate and key" in output
