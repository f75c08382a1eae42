"""How to speak to a Prometheus: the file that promtool takes as ``--http.config.file``, as far as it is needed here."""

from __future__ import annotations

import base64
from pathlib import Path

from pydantic import Field, model_validator

from controller.adapters.config_files import CredentialsError, FilePath, Strict, read_config, read_secret

__all__ = ["CredentialsError", "HttpConfig", "read_http_config"]

_UNKNOWN = "not a field that is read here (secrets are named by file: credentials_file, password_file, files)"


class Authorization(Strict):
    """``authorization``: a token."""

    type: str = "Bearer"
    credentials_file: FilePath


class BasicAuth(Strict):
    """``basic_auth``: a name and its password."""

    username: str
    password_file: FilePath


class Tls(Strict):
    """``tls_config``: whom to believe, and how to be believed."""

    ca_file: FilePath | None = None
    cert_file: FilePath | None = None
    key_file: FilePath | None = None

    @model_validator(mode="after")
    def _whole(self) -> Tls:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together: give both or none")
        return self


class Header(Strict):
    """An entry of ``http_headers``: what is no secret by value, what is one by file."""

    values: tuple[str, ...] = ()
    files: tuple[FilePath, ...] = ()


class HttpConfig(Strict):
    """The whole file. Secrets are in files of their own, read for each request, so that new ones count at once.

    TLS files are read for each new connection.
    """

    authorization: Authorization | None = None
    basic_auth: BasicAuth | None = None
    tls_config: Tls = Tls()
    http_headers: dict[str, Header] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_identity(self) -> HttpConfig:
        if self.authorization and self.basic_auth:
            raise ValueError("authorization and basic_auth exclude each other: give one of them")
        if any(name.lower() == "authorization" for name in self.http_headers):
            raise ValueError(
                "http_headers: Authorization has a field of its own, authorization or basic_auth"
            )
        return self

    def authorize(self) -> str:
        """The value of the Authorization header; ``""`` if there is to be none.

        Raises:
            CredentialsError: If a file cannot be read.
        """
        if self.authorization:
            return f"{self.authorization.type} {read_secret(self.authorization.credentials_file)}"
        if self.basic_auth:
            pair = (
                f"{self.basic_auth.username}:{read_secret(self.basic_auth.password_file, ascii_only=False)}"
            )
            return f"Basic {base64.b64encode(pair.encode()).decode()}"
        return ""

    def headers(self) -> dict[str, str]:
        """All other headers.

        Raises:
            CredentialsError: If a file cannot be read.
        """
        return {
            name: ", ".join((*header.values, *(read_secret(path) for path in header.files)))
            for name, header in self.http_headers.items()
        }


def read_http_config(path: Path) -> HttpConfig:
    """Read the file and, once, all that it names.

    Raises:
        ValueError: If something cannot be read or is not understood; the message says what, and repeats no values.
    """
    config = read_config(path, HttpConfig, _UNKNOWN)
    config.authorize()
    config.headers()
    try:
        for file in (config.tls_config.ca_file, config.tls_config.cert_file, config.tls_config.key_file):
            if file is not None:
                file.read_bytes()
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from error
    return config
