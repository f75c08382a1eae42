"""What routers and the shadow process agree on: headers, whose capture a stream is, and when it ends."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict
from datetime import timedelta
from functools import lru_cache
from typing import Any

from controller.core.shadow.exchange import Subject, Target

CLOSES_LATE = timedelta(seconds=5)
"""For so long after the end of a request a router keeps its stream open, so that a process that is behind is still told."""

PAIR_HEADER = "x-agentrollout-pair"
"""Names a request on all sides; the router sets it, whatever the user sent."""

SUBJECT_HEADER = "x-agentrollout-subject"
"""Of a stream of captures, as those below: whose answers are compared."""

SIDE_HEADER = "x-agentrollout-side"
"""Who answers."""

TIMEOUT_HEADER = "x-agentrollout-timeout"
"""Seconds that the answer may take."""

NOISE_HEADER = "x-agentrollout-noise"
"""There on the streams of stable's halves to which one of the noise arm belongs."""

REPLAY_HEADER = "x-agentrollout-replay"
"""There on the streams of halves whose version may be asked once more: where it is."""


def encode_subject(subject: Subject) -> str:
    """The value of ``SUBJECT_HEADER``."""
    return _packed(asdict(subject))


def encode_target(url: str, host: str) -> str:
    """The value of ``REPLAY_HEADER``; see ``Target``."""
    return _packed({"url": url, "host": host})


@lru_cache(maxsize=1024)
def decode_subject(value: str) -> Subject:
    """The subject in a value of ``SUBJECT_HEADER``.

    Raises:
        ValueError: If it is none.
    """
    try:
        fields = json.loads(base64.urlsafe_b64decode(value.encode()))
        models = tuple(map(str, fields.pop("models")))
        return Subject(models=models, **{name: str(text) for name, text in fields.items()})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{SUBJECT_HEADER} is not what a router of this version sends: {error}") from error


@lru_cache(maxsize=1024)
def decode_target(value: str, seconds: float) -> Target:
    """The target in a value of ``REPLAY_HEADER``.

    Raises:
        ValueError: If it is none.
    """
    try:
        fields = json.loads(base64.urlsafe_b64decode(value.encode()))
        return Target(str(fields["url"]), str(fields["host"]), seconds)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{REPLAY_HEADER} is not what a router of this version sends: {error}") from error


def _packed(fields: dict[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields, sort_keys=True).encode()).decode()
