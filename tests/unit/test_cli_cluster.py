"""What goes wrong between a person and an API server, in sentences."""

from __future__ import annotations

import pytest

from controller.cli_cluster import in_a_sentence
from controller.runtime.errors import ApiError, Unavailable, error_from_status

ASKED = "GET /apis/agentrollout.dev/v1alpha1/namespaces/shop/agentrollouts/agent"

NOBODY = 'agentrollouts.agentrollout.dev "agent" is forbidden: User "bob" cannot get resource "agentrollouts"'


def answered(code: int, reason: str, message: str) -> ApiError:
    return error_from_status(code, {"reason": reason, "message": message}, request=ASKED)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            Unavailable(f"{ASKED}: Cannot connect to host a:1", reason="ConnectionFailed"),
            "the API server at https://a:1 cannot be reached (Cannot connect to host a:1): is --context the right one?",
        ),
        (
            answered(503, "ServiceUnavailable", "starting"),
            "the API server at https://a:1 cannot be reached (starting): is --context the right one?",
        ),
        (answered(401, "Unauthorized", "Unauthorized"), "does not know you: log in again"),
        (
            answered(403, "Forbidden", NOBODY),
            'you are not allowed to: User "bob" cannot get resource "agentrollouts". Ask for a Role that allows it',
        ),
        (
            answered(
                403,
                "Forbidden",
                "x is forbidden: ValidatingAdmissionPolicy 'p' denied request: bob may not abort",
            ),
            "bob may not abort",
        ),
        (answered(404, "", "404 page not found"), "apply the CRDs of this version, kubectl apply -f crds/"),
        (answered(422, "Invalid", "spec.reason: must say why"), "spec.reason: must say why"),
    ],
)
def test_an_error_of_the_api_is_a_sentence_with_the_way_out(error: ApiError, words: str) -> None:
    assert words in in_a_sentence(error, "https://a:1")
