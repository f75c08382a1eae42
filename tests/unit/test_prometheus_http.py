from __future__ import annotations

from pathlib import Path

import pytest

from controller.adapters.prometheus_http import CredentialsError, HttpConfig, read_http_config

SECRET = "hunter2"


def config(directory: Path, text: str) -> HttpConfig:
    (directory / "secret").write_text(f"{SECRET}\n")
    path = directory / "http.yaml"
    path.write_text(text)
    return read_http_config(path)


def test_an_empty_file_asks_for_nothing(tmp_path: Path) -> None:
    assert config(tmp_path, "") == HttpConfig()


def test_secrets_come_from_files_beside_the_file_that_names_them(tmp_path: Path) -> None:
    token = config(tmp_path, "authorization: {credentials_file: secret}")
    assert token.authorize() == f"Bearer {SECRET}"
    basic = config(tmp_path, "basic_auth: {username: me, password_file: secret}")
    assert basic.authorize() == "Basic bWU6aHVudGVyMg=="
    headers = config(
        tmp_path, "http_headers: {X-Scope-OrgID: {values: [shop]}, X-Key: {files: [secret, secret]}}"
    )
    assert headers.headers() == {"X-Scope-OrgID": "shop", "X-Key": f"{SECRET}, {SECRET}"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "is not YAML, at line 1"),
        (f"authorization: {{credentials: {SECRET}}}", "authorization.credentials: not a field that is read"),
        (f"basic_auth: {{username: me, password: {SECRET}}}", "basic_auth.password_file: Field required"),
        (f"{SECRET}", "Input should be"),
        ("authorization: {credentials_file: none}", "none: No such file"),
        ("tls_config: {ca_file: none}", "none: No such file"),
        ("tls_config: {cert_file: secret}", "tls_config: cert_file and key_file go together"),
        ("http_headers: {authorization: {files: [secret]}}", "Authorization has a field of its own"),
        (
            "{authorization: {credentials_file: secret}, basic_auth: {username: me, password_file: secret}}",
            "exclude each other",
        ),
    ],
)
def test_what_is_wrong_is_said_without_repeating_it(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says) as caught:
        config(tmp_path, text)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"hunter2\nhunter3", b"hunter2\x00", "hünter2".encode(), b"\xff2"])
def test_what_cannot_be_a_header_is_refused_without_repeating_it(tmp_path: Path, content: bytes) -> None:
    read = config(tmp_path, "authorization: {credentials_file: secret}")
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(CredentialsError, match=r"secret (is not UTF-8|does not hold one line)") as caught:
        read.authorize()
    assert "nter" not in str(caught.value)


def test_a_password_may_have_any_letters(tmp_path: Path) -> None:
    basic = config(tmp_path, "basic_auth: {username: me, password_file: secret}")
    (tmp_path / "secret").write_text("hünter2", "utf-8")
    assert basic.authorize() == "Basic bWU6aMO8bnRlcjI="
