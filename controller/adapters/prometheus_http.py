"""How to speak to a Prometheus: the file that promtool takes as ``--http.config.file``, as far as it is needed here."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo, model_validator


class CredentialsError(ValueError):
    """A named file has no usable content; the message says which and why, and nothing of what is in it."""


def _beside(path: Path, info: ValidationInfo) -> Path:
    """Paths are relative to the file that names them."""
    return (info.context or Path()) / path


_File = Annotated[Path, AfterValidator(_beside)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Authorization(_Strict):
    """``authorization``: a token."""

    type: str = "Bearer"
    credentials_file: _File


class BasicAuth(_Strict):
    """``basic_auth``: a name and its password."""

    username: str
    password_file: _File


class Tls(_Strict):
    """``tls_config``: whom to believe, and how to be believed."""

    ca_file: _File | None = None
    cert_file: _File | None = None
    key_file: _File | None = None

    @model_validator(mode="after")
    def _whole(self) -> Tls:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together: give both or none")
        return self


class Header(_Strict):
    """An entry of ``http_headers``: what is no secret by value, what is one by file."""

    values: tuple[str, ...] = ()
    files: tuple[_File, ...] = ()


class HttpConfig(_Strict):
    """The whole file. Secrets are in files of their own, read for each request, so that new ones count at once.

    TLS files are read for each new connection.
    """

    authorization: Authorization | None = None
    basic_auth: BasicAuth | None = None
    tls_config: Tls = Tls()
    http_headers: dict[str, Header] = {}

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
            return f"{self.authorization.type} {_secret(self.authorization.credentials_file)}"
        if self.basic_auth:
            pair = f"{self.basic_auth.username}:{_secret(self.basic_auth.password_file, ascii_only=False)}"
            return f"Basic {base64.b64encode(pair.encode()).decode()}"
        return ""

    def headers(self) -> dict[str, str]:
        """All other headers.

        Raises:
            CredentialsError: If a file cannot be read.
        """
        return {
            name: ", ".join((*header.values, *(_secret(path) for path in header.files)))
            for name, header in self.http_headers.items()
        }


def read_http_config(path: Path) -> HttpConfig:
    """Read the file and, once, all that it names.

    Raises:
        ValueError: If something cannot be read or is not understood; the message says what, and repeats no values.
    """
    try:
        content: Any = yaml.safe_load(path.read_text("utf-8"))
        config = HttpConfig.model_validate({} if content is None else content, context=path.absolute().parent)
        config.authorize()
        config.headers()
        for file in (config.tls_config.ca_file, config.tls_config.cert_file, config.tls_config.key_file):
            if file is not None:
                file.read_bytes()
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8") from error
    except yaml.YAMLError as error:
        # Its own words quote the lines around the mistake.
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"{path} is not YAML" + (f", at line {mark.line + 1}" if mark else "")) from None
    except ValidationError as error:
        raise ValueError(f"{path}: {_problems(error)}") from None
    return config


def _problems(error: ValidationError) -> str:
    return "; ".join(
        ".".join(str(part) for part in each["loc"])
        + (": " if each["loc"] else "")
        + _words(each["type"], each["msg"])
        for each in error.errors(include_input=False, include_url=False, include_context=False)
    )


def _words(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "not a field that is read here (secrets are named by file: credentials_file, password_file, files)"
    return message.removeprefix("Value error, ")


def _secret(path: Path, *, ascii_only: bool = True) -> str:
    try:
        text = path.read_text("utf-8").strip()
    except OSError as error:
        raise CredentialsError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise CredentialsError(f"{path} is not UTF-8") from None
    if not text.isprintable() or not text or (ascii_only and not text.isascii()):
        raise CredentialsError(
            f"{path} does not hold one line of printable {'ASCII ' if ascii_only else ''}characters"
        )
    return text
