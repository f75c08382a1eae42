"""Files that configure how others are spoken to: strict, with paths relative to the file, and secrets in files of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError, ValidationInfo


class CredentialsError(ValueError):
    """A named file has no usable content; the message says which and why, and nothing of what is in it."""


def _beside(path: Path, info: ValidationInfo) -> Path:
    """Paths are relative to the file that names them."""
    return (info.context or Path()) / path


FilePath = Annotated[Path, AfterValidator(_beside)]
"""Of another file, relative to the folder that is the context of the validation."""


class Strict(BaseModel):
    """The base of what such a file holds: what is not known is refused, and no value is repeated in an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


Config = TypeVar("Config", bound=Strict)


def read_config(path: Path, kind: type[Config], unknown: str) -> Config:
    """What a YAML file says; ``unknown`` is what to say of a field that is not read.

    Raises:
        ValueError: If it cannot be read or is not understood; the message says what, by field, and repeats no values.
    """
    try:
        content: Any = yaml.safe_load(path.read_text("utf-8"))
        return kind.model_validate({} if content is None else content, context=path.absolute().parent)
    except OSError as error:
        raise ValueError(f"{error.filename}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8") from error
    except yaml.YAMLError as error:
        # Its own words quote the lines around the mistake.
        mark = getattr(error, "problem_mark", None)
        raise ValueError(f"{path} is not YAML" + (f", at line {mark.line + 1}" if mark else "")) from None
    except ValidationError as error:
        raise ValueError(f"{path}: {_problems(error, unknown)}") from None


def read_secret(path: Path, *, ascii_only: bool = True) -> str:
    """The one line that a file holds.

    Raises:
        CredentialsError: If it cannot be read or is no such line.
    """
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


def _problems(error: ValidationError, unknown: str) -> str:
    return "; ".join(
        ".".join(str(part) for part in each["loc"])
        + (": " if each["loc"] else "")
        + (unknown if each["type"] == "extra_forbidden" else each["msg"].removeprefix("Value error, "))
        for each in error.errors(include_input=False, include_url=False, include_context=False)
    )
