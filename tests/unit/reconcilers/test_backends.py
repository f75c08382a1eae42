from __future__ import annotations

import re
from typing import Any

import pytest

from controller.api.agent import Agent
from controller.api.reasons import Reason
from controller.core.artifact import artifact_id
from controller.core.traffic import Backend
from controller.reconcilers.backends import backend_problem, host_problem
from controller.reconcilers.grants import Grants
from controller.reconcilers.observed import observe_revision, observe_rollout


def backend(host: str) -> Backend:
    return Backend("agent-1", "sha256:1", host, 80)


def test_an_allowed_host_is_no_problem() -> None:
    assert backend_problem(backend("agents.internal"), "shop", Grants.parse(["agents.internal"])) is None
    assert backend_problem(backend("agents.internal"), "shop", Grants.parse(["shop=agents.internal"])) is None
    assert backend_problem(None, "shop", Grants()) is None


@pytest.mark.parametrize(
    ("host", "allowed", "says"),
    [
        ("agents.internal", [], "URL backends are off"),
        ("agents.internal", ["other"], "allowed are other"),
        ("agents.internal", ["other"], "with --allowed-url-host shop=agents.internal"),
        (
            "agents.internal",
            ["bank=agents.internal"],
            "not allowed in namespace shop: URL backends are off here",
        ),
        ("169.254.169.254", ["*"], "link-local"),
        ("169.254.169.254", ["169.254.169.254"], "link-local"),
        ("fe80::1", ["fe80::1"], "link-local"),
        ("169.254.169.254.", ["169.254.169.254."], "link-local"),
        ("0xa9fea9fe", ["0xa9fea9fe"], "link-local"),
        ("64:ff9b::a9fe:a9fe", ["64:ff9b::a9fe:a9fe"], "link-local"),
        ("fd00:ec2::254", ["fd00:ec2::254"], "metadata"),
        ("100.100.100.200", ["100.100.100.200"], "metadata"),
        ("::ffff:169.254.169.254", ["::ffff:169.254.169.254"], "link-local"),
    ],
)
def test_a_refusal_names_the_field_and_the_way_out(host: str, allowed: list[str], says: str) -> None:
    problem = backend_problem(backend(host), "shop", Grants.parse(allowed))
    assert problem is not None
    assert problem.reason is Reason.BACKEND_NOT_ALLOWED
    assert problem.message.startswith("spec.agent.code.url")
    assert says in problem.message


@pytest.mark.parametrize(
    ("url", "host", "port", "tls"),
    [
        ("http://agents.internal", "agents.internal", 80, False),
        ("https://agents.internal", "agents.internal", 443, True),
        ("http://[::1]:9000", "::1", 9000, False),
    ],
)
def test_a_url_becomes_a_backend(url: str, host: str, port: int, tls: bool) -> None:
    observed = observe_rollout(
        {
            "metadata": {"name": "agent", "namespace": "shop"},
            "spec": {
                "agent": {"code": {"url": url}, "prompts": {"system": "Help."}},
                "traffic": {"envoy": {"hosts": ["agent.example"]}},
            },
        }
    )
    assert observed.backend is not None
    assert (observed.backend.host, observed.backend.port, observed.backend.tls) == (host, port, tls)
    assert observed.rollout.spec.agent.prompts == {}, "prompts are not kept in memory"


@pytest.mark.parametrize("where", [{"url": "http://a"}, {"service": {"name": "a", "port": 80}}])
@pytest.mark.parametrize(
    ("protocol", "http2"), [({}, False), ({"protocol": "HTTP1"}, False), ({"protocol": "HTTP2"}, True)]
)
def test_a_backend_speaks_what_its_code_says(
    where: dict[str, Any], protocol: dict[str, str], http2: bool
) -> None:
    observed = observe_rollout(
        {
            "metadata": {"name": "agent", "namespace": "shop"},
            "spec": {
                "agent": {"code": where | protocol},
                "traffic": {"envoy": {"hosts": ["agent.example"]}},
            },
        }
    )
    assert observed.backend is not None
    assert observed.backend.http2 is http2


@pytest.mark.parametrize(
    ("agent", "says"),
    [
        ({"code": {"url": "http://a:99999"}}, "spec.agent.code.url"),
        ({"code": {"url": "http://"}}, "has no host"),
        ({"code": {"url": "http://[.:.]"}}, "spec.agent.code.url"),
        ({"code": {"url": "ftp://a"}}, "is not http"),
        (
            {
                "code": {"url": "http://a"},
                "model": {"provider": "p", "name": "m", "parameters": {"n": 2**60}},
            },
            "cannot be hashed",
        ),
    ],
)
def test_an_agent_that_cannot_be_read_is_a_problem_of_its_rollout_alone(
    agent: dict[str, object], says: str
) -> None:
    observed = observe_rollout(
        {
            "metadata": {"name": "agent", "namespace": "shop"},
            "spec": {"agent": agent, "traffic": {"envoy": {"hosts": ["agent.example"]}}},
        }
    )
    assert observed.problem is not None
    assert observed.problem.reason is Reason.INVALID
    assert says in observed.problem.message


def test_a_revision_knows_its_rollout() -> None:
    observed = observe_revision(
        {
            "metadata": {"name": "agent-1", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {
                "rollout": "agent",
                "artifactID": artifact_id(Agent.model_validate({"code": {"url": "http://a"}})),
                "agent": {"code": {"url": "http://a"}},
            },
        }
    )
    assert observed.owner == "shop/agent"
    assert observed.revision.created > 0


def test_a_revision_that_claims_another_artifact_than_its_own_is_refused() -> None:
    with pytest.raises(ValueError, match="not the hash"):
        observe_revision(
            {
                "metadata": {"name": "agent-1", "namespace": "shop"},
                "spec": {
                    "rollout": "agent",
                    "artifactID": f"sha256:{'1' * 64}",
                    "agent": {"code": {"url": "http://a"}},
                },
            }
        )


def test_hosts_are_anyones_until_the_operator_gives_them_out() -> None:
    assert host_problem(["a.example"], "shop", Grants()) is None
    assert host_problem(["a.example"], "shop", Grants.parse(["shop=a.example"])) is None
    assert host_problem(["a.shop.example"], "shop", Grants.parse(["shop=*.shop.example"])) is None


def test_a_refused_host_names_the_field_and_the_way_out() -> None:
    problem = host_problem(
        ["a.example", "b.example"], "shop", Grants.parse(["shop=a.example", "*.c.example"])
    )
    assert problem is not None
    assert problem.reason is Reason.HOST_NOT_ALLOWED
    assert problem.message == (
        "spec.traffic.envoy.hosts: namespace shop may not serve b.example: allowed are *.c.example, a.example; "
        "the operator adds one with --allowed-host shop=b.example"
    )
    none = host_problem(["b.example"], "bank", Grants.parse(["shop=a.example"]))
    assert none is not None
    assert "allowed are none" in none.message


@pytest.mark.parametrize(
    ("grant", "namespace", "host", "allowed"),
    [
        ("a.example", "shop", "a.example", True),
        ("shop=a.example", "shop", "a.example", True),
        ("shop=a.example", "bank", "a.example", False),
        ("shop=*.example", "shop", "a.b.example", True),
        ("shop=*.example", "shop", "example", False),
        ("shop=*.example", "shop", "anexample", False),
        ("shop=*", "shop", "anything", True),
        ("shop=*", "bank", "anything", False),
        ("shop=::1", "shop", "::1", True),
    ],
)
def test_a_grant_is_for_one_namespace_or_all_and_for_one_host_or_a_domain(
    grant: str, namespace: str, host: str, allowed: bool
) -> None:
    assert Grants.parse([grant]).allow(namespace, host) is allowed


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Shop=a.example", "'Shop' in 'Shop=a.example' is not the name of a namespace"),
        ("=a.example", "is not the name of a namespace"),
        ("shop=", "is not a host"),
        ("shop=http://a.example:80/", "write a.example"),
        ("shop=a.*.example", "only the beginning may be a star"),
        ("shop=*a.example", "only the beginning may be a star"),
    ],
)
def test_a_grant_that_cannot_be_read_is_refused_in_a_sentence(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        Grants.parse([text])
