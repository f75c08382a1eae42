"""What can go wrong when the Kubernetes API is asked for something, one class per reaction of a caller."""

# ruff: noqa: N818 - these are Kubernetes' own reason names; a suffix would make them harder to recognise

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any


class ApiError(Exception):
    """The API server refused a request or could not be asked.

    Attributes:
        code: HTTP status code; 0 when there was no answer.
        reason: Machine-readable reason of the Status object, ``""`` if there was none.
        retry_after: Seconds that the server asks to wait, if it does.
        causes: ``(field, message)`` of each cause that the server named.
    """

    def __init__(
        self,
        message: str,
        *,
        code: int = 0,
        reason: str = "",
        retry_after: float | None = None,
        causes: tuple[tuple[str, str], ...] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.retry_after = retry_after
        self.causes = causes


class BadRequest(ApiError):
    """400: the request itself is malformed."""


class Unauthorized(ApiError):
    """401: the credentials are missing, wrong or expired."""


class Forbidden(ApiError):
    """403: the credentials are good but lack the permission, or an admission plugin refused."""


class NotFound(ApiError):
    """404: no such object, or no such kind."""


class Conflict(ApiError):
    """409: the object has changed since it was read, or another field manager owns the field."""


class AlreadyExists(Conflict):
    """409: an object of that name is there already."""


class Gone(ApiError):
    """410: the resourceVersion or continue token is too old; list again."""


class Invalid(ApiError):
    """422: the object breaks its schema or a validation rule; ``causes`` name the fields."""


class TooManyRequests(ApiError):
    """429: the server sheds load; ``retry_after`` says for how long."""


class Unavailable(ApiError):
    """No usable answer: connection refused or broken, deadline passed, 5xx, or not JSON."""


class VersionNotReached(Unavailable):
    """504: the server does not have the resourceVersion yet: it lags, or was restored from a backup."""


_BY_CODE: Mapping[int, type[ApiError]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    422: Invalid,
    429: TooManyRequests,
}


def error_from_status(
    code: int, status: Mapping[str, Any], *, request: str, retry_after: float | None = None
) -> ApiError:
    """The typed error for a Status object.

    Args:
        code: HTTP status code (or ``status.code`` of a watch's ERROR event).
        status: The decoded Status object; may be empty or incomplete.
        request: What was asked, for the message: ``"PUT /apis/…"``.
        retry_after: Seconds of the Retry-After header, if there was one.
    """
    details = status.get("details") or {}
    named = details.get("causes") or ()
    causes = tuple((str(cause.get("field", "")), str(cause.get("message", ""))) for cause in named)
    reason = str(status.get("reason") or "")
    if retry_after is None and details.get("retryAfterSeconds"):
        retry_after = float(details["retryAfterSeconds"])
    message = status.get("message") or "no explanation given"
    error_class = _class_for(code, reason, {str(cause.get("reason", "")) for cause in named})
    return error_class(
        f"{request}: {code} {reason}".rstrip() + f": {message}",
        code=code,
        reason=reason,
        retry_after=retry_after,
        causes=causes,
    )


def _class_for(code: int, reason: str, causes: AbstractSet[str]) -> type[ApiError]:
    if reason == "AlreadyExists":
        return AlreadyExists
    # A watch reports a compacted resourceVersion either as 410 or by this reason in an ERROR event.
    if reason == "Expired":
        return Gone
    if "ResourceVersionTooLarge" in causes:
        return VersionNotReached
    if code >= 500:
        return Unavailable
    return _BY_CODE.get(code, ApiError)
