import pytest

from controller.runtime import errors


@pytest.mark.parametrize(
    ("code", "reason", "expected"),
    [
        (400, "BadRequest", errors.BadRequest),
        (401, "Unauthorized", errors.Unauthorized),
        (403, "Forbidden", errors.Forbidden),
        (404, "NotFound", errors.NotFound),
        (409, "Conflict", errors.Conflict),
        (409, "AlreadyExists", errors.AlreadyExists),
        (410, "Gone", errors.Gone),
        (410, "Expired", errors.Gone),
        (500, "Expired", errors.Gone),
        (418, "", errors.ApiError),
        (422, "Invalid", errors.Invalid),
        (429, "TooManyRequests", errors.TooManyRequests),
        (500, "InternalError", errors.Unavailable),
        (503, "", errors.Unavailable),
        (504, "Timeout", errors.Unavailable),
    ],
)
def test_each_status_has_its_class(code: int, reason: str, expected: type[errors.ApiError]) -> None:
    error = errors.error_from_status(code, {"reason": reason}, request="GET /x")
    assert type(error) is expected
    assert (error.code, error.reason) == (code, reason)


def test_the_message_says_what_was_asked_and_why_it_failed() -> None:
    error = errors.error_from_status(404, {"reason": "NotFound", "message": 'no "x"'}, request="GET /a/x")
    assert str(error) == 'GET /a/x: 404 NotFound: no "x"'


def test_an_empty_status_still_makes_a_sentence() -> None:
    assert str(errors.error_from_status(502, {}, request="GET /x")) == "GET /x: 502: no explanation given"


def test_causes_name_the_fields() -> None:
    status = {"details": {"causes": [{"field": "spec.weight", "message": "must be at most 100"}, {}]}}
    error = errors.error_from_status(422, status, request="POST /x")
    assert error.causes == (("spec.weight", "must be at most 100"), ("", ""))


@pytest.mark.parametrize(
    ("header", "status", "expected"),
    [
        (3.0, {"details": {"retryAfterSeconds": 5}}, 3.0),
        (None, {"details": {"retryAfterSeconds": 5}}, 5.0),
        (None, {"details": {}}, None),
        (None, {}, None),
    ],
)
def test_how_long_to_wait(header: float | None, status: dict[str, object], expected: float | None) -> None:
    assert errors.error_from_status(429, status, request="GET /x", retry_after=header).retry_after == expected
