"""What the API server must refuse, and in which words."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

Raw = dict[str, Any]

REMOVED = object()
"""As a value: the field is left out."""

INTERNAL = {"header": "x-user-group", "values": ["internal"]}


@dataclass(frozen=True)
class Refusal:
    """A valid manifest with one thing changed.

    Attributes:
        title: What is wrong with it, for the name of the test.
        path: The changed field.
        value: What it is changed to.
        field: The field that the message must name.
        words: What the message must say about it.
    """

    title: str
    path: str
    value: Any
    field: str
    words: str

    def manifest(self) -> Raw:
        return changed(self.path, self.value)


def rollout(name: str = "refused") -> Raw:
    return {
        "apiVersion": "agentrollout.dev/v1alpha1",
        "kind": "AgentRollout",
        "metadata": {"name": name},
        "spec": {
            "agent": {"code": {"url": "http://agent-v1.example:8080"}, "prompts": {"system": "You help."}},
            "traffic": {"envoy": {"hosts": ["agent.example"]}},
        },
    }


def changed(path: str, value: Any, name: str = "refused") -> Raw:
    """A valid manifest with one field set or, for ``REMOVED``, left out."""
    manifest = rollout(name)
    *parents, last = path.split(".")
    parent = manifest
    for key in parents:
        parent = parent.setdefault(key, {})
    if value is REMOVED:
        del parent[last]
    else:
        parent[last] = copy.deepcopy(value)
    return manifest


def stages(*given: str | Raw) -> list[Raw]:
    return [{"weight": stage} if isinstance(stage, str) else stage for stage in given]


def _first_stage(title: str, stage: Raw, field: str, words: str) -> Refusal:
    return Refusal(title, "spec.stages", stages(stage, "100%"), f"spec.stages[0]{field}", words)


def _weight(text: str) -> Refusal:
    words = "must be above 0% and up to 100% with at most 4 decimals"
    return _first_stage(f"weight {text}", {"weight": text}, ".weight", words)


def _min_duration(text: str) -> Refusal:
    words = "must be a duration above zero and below 10000d, largest unit first, such as 15s, 10m or 1h30m"
    return _first_stage(f"minDuration {text}", {"weight": "1%", "minDuration": text}, ".minDuration", words)


def _analysis(title: str, key: str, value: Any, words: str) -> Refusal:
    return Refusal(title, f"spec.analysis.{key}", value, f"spec.analysis.{key}", words)


def _metric(title: str, metric: Raw, field: str, words: str) -> Refusal:
    path = "spec.analysis.metrics"
    return Refusal(f"metric {title}", path, [metric], f"{path}[0]{field}", words)


def _shadow(title: str, shadow: Any, field: str, words: str) -> Refusal:
    return Refusal(f"shadow {title}", "spec.shadow", shadow, f"spec.shadow{field}", words)


def _guardrail(title: str, guardrail: Raw, field: str, words: str) -> Refusal:
    path = "spec.analysis.guardrails"
    return Refusal(f"guardrail {title}", path, [guardrail], f"{path}[0]{field}", words)


_ASKS: Raw = {"name": "own", "query": "up", "max": 2, "action": "Hold"}


def _own(bad: Raw) -> Raw:
    return {"name": "own", "total": _BAD, "bad": bad}


def _url(title: str, url: str, words: str = "without user name, path or query") -> Refusal:
    return Refusal(f"url {title}", "spec.agent.code.url", url, "spec.agent.code.url", words)


def _code(title: str, value: Any, field: str, words: str) -> Refusal:
    return Refusal(title, "spec.agent.code", value, f"spec.agent.code{field}", words)


def _service(title: str, change: Raw, field: str, words: str) -> Refusal:
    service = {
        key: value for key, value in ({"name": "agent", "port": 80} | change).items() if value is not REMOVED
    }
    return _code(f"service {title}", {"service": service}, f".service{field}", words)


def _host(host: str) -> Refusal:
    words = "must be a host name in lower case without scheme and port, such as support.example.com"
    path = "spec.traffic.envoy.hosts"
    return Refusal(f"host {host or 'empty'}", path, [host], f"{path}[0]", words)


def _header(
    title: str, header: str, words: str = "must be the name of a header in lower case"
) -> list[Refusal]:
    path = "spec.traffic.affinity.header"
    audience = {"audience": {"header": header, "values": ["internal"]}}
    return [
        Refusal(f"affinity header {title}", path, header, path, words),
        _first_stage(f"audience header {title}", audience, ".audience.header", words),
    ]


EVIDENCE_OF_NOBODY = rollout()["spec"] | {"stages": stages("100%"), "analysis": {"advanceOn": "Evidence"}}

_INCREASE = "weights of stages without audience must strictly increase, such as 1%, 10%, 50%, 100%"
_LAST = "the last stage must have weight 100% and no audience"
_ONE_CODE = "exactly one of url, service and image must be set"
_SERVICE = "must be the name of a Service in the AgentRollout's own namespace, without namespace or domain"
_ONE_SOURCE = "exactly one of configMapKeyRef and secretKeyRef must be set"
_REF = {"name": "prompts", "key": "v1"}
_NO_PROMPT = "must not be empty: write the prompt or remove its name"
_TOO_MUCH = "prompts together must not exceed 131072 bytes (128 KiB)"
_NAME = "must have at most 52 characters of a-z, 0-9 and -"
_HALF = "must be above 0% and up to 50%"
_BAD = {"metric": "agent_answers_total", "labels": {"outcome": "refused"}}
_OWN = "a metric of your own needs total, and either bad or good"
_KNOWN = "errors, latency and conversations come from the router, which knows the version"
_HOSTS = "spec.traffic.envoy.hosts"

STAGES = [
    *(_weight(w) for w in ("0%", "0", "0.0%", "101%", "100.1%", "-1%", "ten", "1 %", "%", "01%", "1e1%")),
    _weight("0.12345%"),
    _first_stage("weight as a number", {"weight": 10}, ".weight", "must be of type string"),
    _first_stage("weight 0 of an audience", {"audience": INTERNAL, "weight": "0%"}, ".weight", "must be above 0%"),
    _first_stage("stage without weight and audience", {"minDuration": "1m"}, "", "a stage without audience needs a weight"),
    Refusal("stages not increasing", "spec.stages", stages("10%", "1%", "100%"), "spec.stages", _INCREASE),
    Refusal("equal weights", "spec.stages", stages("10%", "10%", "100%"), "spec.stages", _INCREASE),
    Refusal("equal weights written differently", "spec.stages", stages("10%", "10.0%", "100%"), "spec.stages", _INCREASE),
    Refusal("equal weights with and without sign", "spec.stages", stages("10", "10%", "100%"), "spec.stages", _INCREASE),
    Refusal("weights not increasing around an audience", "spec.stages",
            stages("10%", {"audience": INTERNAL}, "5%", "100%"), "spec.stages", _INCREASE),
    Refusal("last stage not 100%", "spec.stages", stages("10%", "50%"), "spec.stages", _LAST),
    Refusal("last stage an audience", "spec.stages", stages("100%", {"audience": INTERNAL}), "spec.stages", _LAST),
    Refusal("last stage an audience of 100%", "spec.stages", stages({"audience": INTERNAL, "weight": "100%"}), "spec.stages", _LAST),
    Refusal("two audience stages", "spec.stages",
            stages({"audience": INTERNAL}, {"audience": INTERNAL, "weight": "5%"}, "1%", "100%"), "spec.stages",
            "only one stage may have an audience"),
    Refusal("no stages", "spec.stages", [], "spec.stages", "should have at least 1 items"),
    Refusal("17 stages", "spec.stages", stages(*(f"{n}%" for n in range(1, 17)), "100%"), "spec.stages", "must have at most 16 items"),
    *(_min_duration(d) for d in ("soon", "0s", "0h0m", "10", "1.5m", "-5m", "1m 2s", "1m1h", "99999999999h")),
    _first_stage("minDuration as a number", {"weight": "1%", "minDuration": 600}, ".minDuration", "must be of type string"),
    _first_stage("minRequests 0", {"weight": "1%", "minRequests": 0}, ".minRequests", "should be greater than or equal to 1"),
    _first_stage("minRequests as text", {"weight": "1%", "minRequests": "many"}, ".minRequests", "must be of type integer"),
    _first_stage("audience without values", {"audience": {"header": "x-user-group", "values": []}},
                 ".audience.values", "should have at least 1 items"),
    _first_stage("audience without list of values", {"audience": {"header": "x-user-group"}}, ".audience.values", "Required value"),
    _first_stage("audience without header", {"audience": {"values": ["internal"]}}, ".audience.header", "Required value"),
    _first_stage("audience with an empty value", {"audience": {"header": "x-user-group", "values": [""]}},
                 ".audience.values[0]", "should be at least 1 chars long"),
    _first_stage("approval of nobody", {"weight": "1%", "approval": {"required": 0}}, ".approval.required",
                 "should be greater than or equal to 1"),
    _first_stage("approval of 11", {"weight": "1%", "approval": {"required": 11}}, ".approval.required",
                 "should be less than or equal to 10"),
    _first_stage("stage name too long", {"weight": "1%", "name": "x" * 64}, ".name", "may not be more than 63"),
]  # fmt: skip

AGENT = [
    _code("url and service", {"url": "http://a", "service": {"name": "a", "port": 80}}, "", _ONE_CODE),
    _code("url and image", {"url": "http://a", "image": "a"}, "", _ONE_CODE),
    _code("service and image", {"service": {"name": "a", "port": 80}, "image": "a"}, "", _ONE_CODE),
    _code("no code", {}, "", _ONE_CODE),
    _code("code left out", REMOVED, "", "Required value"),
    _code("unknown protocol", {"url": "http://a", "protocol": "HTTP3"}, ".protocol", 'supported values: "HTTP1", "HTTP2"'),
    _code("image", {"image": "a"}, ".image", "image is not supported by this version: deploy it and use service"),
    _service("without name", {"name": REMOVED}, ".name", "Required value"),
    _service("without port", {"port": REMOVED}, ".port", "Required value"),
    _service("by its domain", {"name": "agent.shop.svc"}, ".name", _SERVICE),
    _service("of another namespace", {"name": "other/agent"}, ".name", _SERVICE),
    _service("name in upper case", {"name": "Agent"}, ".name", _SERVICE),
    _service("empty name", {"name": ""}, ".name", _SERVICE),
    _service("name of 64 characters", {"name": "x" * 64}, ".name", "may not be more than 63"),
    _service("port 0", {"port": 0}, ".port", "should be greater than or equal to 1"),
    _service("port 65536", {"port": 65536}, ".port", "should be less than or equal to 65535"),
    _service("port by name", {"port": "http"}, ".port", "must be of type integer"),
    _code("service with a namespace", {"service": {"name": "a", "port": 80, "namespace": "other"}},
          "", 'unknown field "spec.agent.code.service.namespace"'),
    _url("with a path", "http://agent.example/v1"),
    _url("with a query", "http://agent.example?v=1"),
    _url("with user info", "http://user:secret@agent.example"),
    _url("ftp", "ftp://agent.example", "must be http://host[:port] or https://host[:port]"),
    _url("without scheme", "agent.example:8080", "must be http://host[:port] or https://host[:port]"),
    _url("without host", "http://", "must be http://host[:port] or https://host[:port]"),
    _url("with port 0", "http://agent.example:0", "the port must be from 1 to 65535"),
    _url("with port 65536", "http://agent.example:65536", "the port must be from 1 to 65535"),
    _url("too long", f"http://{'a' * 512}", "may not be more than 512"),
    Refusal("empty prompt", "spec.agent.prompts", {"system": ""}, "spec.agent.prompts[system]", _NO_PROMPT),
    Refusal("blank prompt", "spec.agent.prompts", {"system": " \n\t"}, "spec.agent.prompts[system]", _NO_PROMPT),
    Refusal("prompts too large together", "spec.agent.prompts", {"a": "x" * 70_000, "b": "x" * 70_000}, "spec.agent.prompts", _TOO_MUCH),
    Refusal("prompts too large in bytes", "spec.agent.prompts", {"a": "ü" * 70_000}, "spec.agent.prompts", _TOO_MUCH),
    *(Refusal(title, "spec.agent.promptsFrom", {"task": source}, f"spec.agent.promptsFrom{field}", words)
      for title, source, field, words in (
        ("prompt from nowhere", {}, "[task]", _ONE_SOURCE),
        ("prompt from two objects", {"configMapKeyRef": _REF, "secretKeyRef": _REF}, "[task]", _ONE_SOURCE),
        ("prompt from a ConfigMap without key", {"configMapKeyRef": {"name": "prompts"}}, ".task.configMapKeyRef.key", "Required value"),
        ("prompt from a Secret without name", {"secretKeyRef": {"key": "v1"}}, ".task.secretKeyRef.name", "Required value"),
        ("prompt from a wrong name", {"configMapKeyRef": _REF | {"name": "shop/prompts"}}, "[task].configMapKeyRef.name",
         "must be the name of an object, without namespace"),
        ("prompt from a wrong key", {"secretKeyRef": _REF | {"key": "a/b"}}, "[task].secretKeyRef.key", "must be a key: letters, digits, -, _ and ."),
      )),
    Refusal("prompt from another namespace", "spec.agent.promptsFrom", {"task": {"configMapKeyRef": _REF | {"namespace": "other"}}},
            'unknown field "spec.agent.promptsFrom.task.configMapKeyRef.namespace"', "strict decoding error"),
    Refusal("prompt as text and from a ConfigMap", "spec.agent.promptsFrom", {"system": {"configMapKeyRef": _REF}},
            "spec.agent.promptsFrom", "a prompt stands in prompts or in promptsFrom, not in both: remove it from one of them"),
    Refusal("33 prompts together", "spec.agent.promptsFrom", {f"p{n}": {"configMapKeyRef": _REF} for n in range(32)},
            "spec.agent.promptsFrom", "prompts and promptsFrom together must not have more than 32 names"),
    Refusal("prompt without name from a ConfigMap", "spec.agent.promptsFrom", {"": {"configMapKeyRef": _REF}},
            "spec.agent.promptsFrom", "names of prompts must have 1 to 128 characters"),
    Refusal("33 prompts", "spec.agent.prompts", {f"p{n}": "x" for n in range(33)}, "spec.agent.prompts", "must have at most 32 items"),
    Refusal("prompt without a name", "spec.agent.prompts", {"": "x"}, "spec.agent.prompts", "must have 1 to 128 characters"),
    Refusal("model without name", "spec.agent.model", {"provider": "openai"}, "spec.agent.model.name", "Required value"),
    Refusal("model with empty name", "spec.agent.model", {"provider": "openai", "name": ""}, "spec.agent.model.name", "should be at least 1 chars long"),
    Refusal("parameters that are no map", "spec.agent.model", {"provider": "a", "name": "b", "parameters": "hot"},
            "spec.agent.model.parameters", "must be of type object"),
    Refusal("dependency as a number", "spec.agent.dependencies", {"tool": 1.2}, "spec.agent.dependencies.tool", "must be of type string"),
    Refusal("dependency without version", "spec.agent.dependencies", {"tool": ""}, "spec.agent.dependencies.tool", "should be at least 1 chars long"),
    Refusal("dependency with a long name", "spec.agent.dependencies", {"x" * 257: "1"}, "spec.agent.dependencies", "must have 1 to 256 characters"),
]  # fmt: skip

REST = [
    _analysis("interval garbage", "interval", "often", "must be a duration above zero"),
    _analysis("interval 0s", "interval", "0s", "must be a duration above zero"),
    _analysis("interval 99ms", "interval", "99ms", "must be at least 100ms"),
    _analysis("falseRollbackRate garbage", "falseRollbackRate", "low", _HALF),
    _analysis("falseRollbackRate 0%", "falseRollbackRate", "0%", _HALF),
    _analysis("falseRollbackRate 51%", "falseRollbackRate", "51%", _HALF),
    _analysis("falseRollbackRate as a number", "falseRollbackRate", 0.01, "must be of type string"),
    _analysis("clustering below 1", "clustering", 0.5, "should be greater than or equal to 1"),
    _analysis("clustering over 1000", "clustering", 1001, "should be less than or equal to 1000"),
    _analysis("clustering not a number", "clustering", "lots", "must be of type number"),
    _analysis("advanceOn something else", "advanceOn", "Hope", 'supported values: "Time", "Evidence"'),
    _analysis("maxRatio of 1", "maxRatio", 1, "must be from 1.1 to 100"),
    _analysis("maxRatio over 100", "maxRatio", 101, "must be from 1.1 to 100"),
    _analysis("maxRatio as text", "maxRatio", "2x", "must be of type number"),
    Refusal("evidence without anybody to compare with", "spec", EVIDENCE_OF_NOBODY, "spec.analysis.advanceOn",
            "Evidence needs a stage in which stable serves beside the candidate"),
    _analysis("no metrics", "metrics", [], "should have at least 1 items"),
    _metric("unknown name", {"name": "error"}, "", "a metric of your own needs total, and either bad or good; built in are errors, latency, conversations,"),
    _metric("without total", {"name": "own", "bad": _BAD}, "", _OWN),
    _metric("with bad and good", {"name": "own", "total": _BAD, "bad": _BAD, "good": _BAD}, "", _OWN),
    _metric("without bad and good", {"name": "own", "total": _BAD}, "", _OWN),
    _metric("built in, with bad", {"name": "toolErrors", "bad": _BAD}, "", "is built in: remove total, bad and good, or choose another name"),
    _metric("of the router, with a version", {"name": "errors", "version": {"label": "a"}}, "", _KNOWN),
    _metric("of the router, with a convention", {"name": "latency", "convention": "Agent"}, "", _KNOWN),
    _metric("conversations with a version", {"name": "conversations", "version": {"label": "a"}}, "", _KNOWN),
    _metric("exposure of errors", {"name": "errors", "exposure": "1m"}, "", "only conversations have an exposure: remove it"),
    _metric("exposure of nothing", {"name": "conversations", "exposure": "0s"}, ".exposure", "must be a duration above zero"),
    _analysis("conversations without errors", "metrics", [{"name": "latency"}, {"name": "conversations"}], "conversations are judged late, and no audience's: add errors beside them"),
    _metric("of OpenTelemetry for cost", {"name": "cost", "convention": "OpenTelemetry"}, "", "OpenTelemetry has only toolErrors"),
    _metric("of OpenTelemetry for one's own", {"name": "own", "total": _BAD, "bad": _BAD, "convention": "OpenTelemetry"}, "", "OpenTelemetry has only toolErrors"),
    _metric("of an unknown convention", {"name": "toolErrors", "convention": "Otel"}, ".convention", 'supported values: "Agent", "OpenTelemetry"'),
    _metric("unknown form", {"name": "cost", "version": {"form": "Name"}}, ".version.form", 'supported values: "ArtifactID", "Revision"'),
    _metric("label with a dash", {"name": "cost", "version": {"label": "a-b"}}, ".version.label", "must be the name of a Prometheus label"),
    _metric("name with a space", {"name": "my own", "total": _BAD, "bad": _BAD}, ".name", "must be a word of letters, digits and -"),
    _metric("empty name", {"name": "", "total": _BAD, "bad": _BAD}, ".name", "must be a word of letters, digits and -"),
    _metric("name too long", {"name": "x" * 64, "total": _BAD, "bad": _BAD}, ".name", "may not be more than 63"),
    _metric("counter with its labels", _own({"metric": "a{b='c'}"}), ".bad.metric", "must be the name of a counter in Prometheus"),
    _metric("counter without name", _own({"labels": {}}), ".bad.metric", "Required value"),
    _metric("__name__ as a label", _own({"metric": "a", "labels": {"__name__": "b"}}), ".bad.labels", "names of labels must be letters, digits and _"),
    _metric("9 labels", _own({"metric": "a", "labels": {f"l{n}": "" for n in range(9)}}), ".bad.labels", "must have at most 8 items"),
    _metric("long value of a label", _own({"metric": "a", "labels": {"b": "x" * 257}}), ".bad.labels.b", "may not be more than 256"),
    _metric("edge that is no number", _own({"metric": "a_bucket", "labels": {"le": "four"}}), ".bad", "the label le must be the upper edge of a bucket"),
    _guardrail("of an unknown name", {"name": "errors"}, "", "needs a query; built in are toolErrors, latency, tokensPerTask and dailyCost"),
    _guardrail("named in words", _ASKS | {"name": "too much"}, ".name", "must be a word of letters, digits and -"),
    _guardrail("built in with a query", _ASKS | {"name": "latency"}, "", "tokensPerTask and dailyCost have no query: choose another name"),
    _guardrail("built in with for", {"name": "latency", "for": "5m"}, "", "max, min, for and samples belong to a guardrail with a query"),
    _guardrail("built in with max", {"name": "latency", "max": 5}, "", "max, min, for and samples belong to a guardrail with a query"),
    _guardrail("query with a factor", _ASKS | {"factor": 2}, "", "the limit of a query is max or min"),
    _guardrail("query with a share", _ASKS | {"maxShare": "5%"}, "", "maxShare and window belong to toolErrors"),
    _guardrail("query without a limit", {"name": "own", "query": "up", "action": "Hold"}, "", "query needs max, min or both"),
    _guardrail("min above max", _ASKS | {"min": 2.5}, "", "min must not be above max"),
    _guardrail("rollback without samples", _ASKS | {"action": "Rollback"}, "", "action Rollback needs samples, a query that gives how many"),
    _guardrail("action left out without samples", {"name": "own", "query": "up", "max": 1}, "", "choose the action Hold or Alert"),
    _guardrail("empty query", _ASKS | {"query": ""}, ".query", "should be at least 1 chars long"),
    _guardrail("long query", _ASKS | {"query": "u" * 2049}, ".query", "may not be more than 2048"),
    _guardrail("for of no time", _ASKS | {"for": "0s"}, ".for", "must be a duration above zero"),
    _guardrail("toolErrors with a factor", {"name": "toolErrors", "factor": 2}, "", "toolErrors has a maxShare, such as 5%, and no factor"),
    _guardrail("latency with a share", {"name": "latency", "maxShare": "5%"}, "", "maxShare and window belong to toolErrors"),
    _guardrail("latency with a window", {"name": "latency", "window": "5m"}, "", "maxShare and window belong to toolErrors"),
    _guardrail("latency with an expectation", {"name": "latency", "expected": 100}, "", "expected belongs to tokensPerTask"),
    _guardrail("latency with labels", {"name": "latency", "labels": {"job": "support"}}, "", "labels belong to dailyCost"),
    _guardrail("dailyCost of a label that is no name", {"name": "dailyCost", "labels": {"a-b": "c"}}, ".labels", "names of labels must be letters, digits and _"),
    _guardrail("factor 1", {"name": "latency", "factor": 1}, "", "factor must be above 1"),
    _guardrail("share of 60%", {"name": "toolErrors", "maxShare": "60%"}, ".maxShare", _HALF),
    _guardrail("10 samples", {"name": "latency", "minSamples": 10}, ".minSamples", "should be greater than or equal to 11"),
    _guardrail("unknown action", {"name": "latency", "action": "Page"}, ".action", 'supported values: "Rollback", "Hold", "Alert"'),
    Refusal("guardrail twice", "spec.analysis.guardrails", [{"name": "latency"}] * 2, "spec.analysis.guardrails[1]", "Duplicate value"),
    _analysis("17 metrics", "metrics", [_own(_BAD) | {"name": f"m{n}"} for n in range(17)], "must have at most 16 items"),
    Refusal("metric twice", "spec.analysis.metrics", [{"name": "errors"}] * 2, "spec.analysis.metrics[1]", "Duplicate value"),
    Refusal("no hosts", _HOSTS, [], _HOSTS, "should have at least 1 items"),
    Refusal("hosts left out", "spec.traffic.envoy", {}, _HOSTS, "Required value"),
    Refusal("router left out", "spec.traffic", {}, "spec.traffic.envoy", "Required value"),
    Refusal("17 hosts", _HOSTS, [f"a{n}.example" for n in range(17)], _HOSTS, "must have at most 16 items"),
    Refusal("host twice", _HOSTS, ["a.example", "b.example", "a.example"], f"{_HOSTS}[2]", "Duplicate value"),
    *(_host(h) for h in ("Agent.example", "agent.example:80", "*.example", "http://a.example", "a..example", "-a", "a_b", "")),
    *_header("in upper case", "X-User-Group"),
    *_header("with a space", "x user"),
    *_header("of the router", "x-agentrollout-artifact", "headers that begin with x-agentrollout- are the router's own"),
    Refusal("unknown delivery", "spec.delivery", "Magic", "spec.delivery", 'supported values: "Deployed", "Header"'),
    Refusal("deadline garbage", "spec.progressDeadline", "soon", "spec.progressDeadline", "must be a duration above zero"),
    Refusal("unknown deadline action", "spec.onProgressDeadline", "Promote", "spec.onProgressDeadline", 'supported values: "Hold", "Rollback"'),
    Refusal("unknown action for answers under way", "spec.inFlight.onRollback", "Reset", "spec.inFlight.onRollback", 'supported values: "Drain", "Cut"'),
    Refusal("answers under way without an action", "spec.inFlight", "Cut", "spec.inFlight", "must be of type object"),
    Refusal("negative history", "spec.revisionHistoryLimit", -1, "spec.revisionHistoryLimit", "should be greater than or equal to 0"),
    Refusal("name of 53 characters", "metadata.name", "x" * 53, "metadata.name", _NAME),
    Refusal("name with a dot", "metadata.name", "support.agent", "metadata.name", _NAME),
    Refusal("agent left out", "spec.agent", REMOVED, "spec.agent", "Required value"),
    Refusal("spec left out", "spec", REMOVED, "spec", "Required value"),
    Refusal("unknown field", "spec.stage", [], 'unknown field "spec.stage"', "strict decoding error"),
    Refusal("unknown field inside", "spec.analysis.intervall", "1s", 'unknown field "spec.analysis.intervall"', "strict decoding error"),
]  # fmt: skip

SHADOW = [
    *(_shadow(f"of {text}", {"fraction": text}, ".fraction", "must be above 0% and up to 50%") for text in ("0%", "51%", "all")),
    *(_shadow(f"with noise {text}", {"noise": text}, ".noise", "must be from 0% to 100%") for text in ("-1%", "101%", "none")),
    _shadow("with a number", {"fraction": 0.1}, ".fraction", "must be of type string"),
    _shadow("with a judge in words", {"judge": "the best"}, ".judge", "must be a word of letters, digits and -, such as default"),
    _shadow("without comparisons", {"minComparisons": 0}, ".minComparisons", "should be greater than or equal to 1"),
    _shadow("of no time", {"minDuration": "0s"}, ".minDuration", "must be a duration above zero"),
    _shadow("with an endless wait", {"maxDuration": "for ever"}, ".maxDuration", "must be a duration above zero"),
    _shadow("longer than its wait", {"minDuration": "1h1m", "maxDuration": "1h"}, "", "minDuration (default 10m) must not be longer than maxDuration"),
    _shadow("longer than the usual wait", {"minDuration": "3h"}, "", "minDuration (default 10m) must not be longer than maxDuration"),
    _shadow("with a wait that is too short", {"maxDuration": "9m"}, "", "must not be longer than maxDuration (default 2h)"),
    *(_shadow(f"with a timeout of {text}", {"timeout": text}, ".timeout", "must be from 1s to 10m") for text in ("999ms", "11m", "1d")),
    _shadow("with a timeout in words", {"timeout": "soon"}, ".timeout", "must be a duration above zero"),
    _shadow("with an unknown action", {"onInsufficient": "Promote"}, ".onInsufficient", 'supported values: "Hold", "Advance", "Rollback"'),
    _shadow("that alerts", {"onRegression": "Alert"}, ".onRegression", 'supported values: "Rollback", "Hold"'),
    _shadow("with less than no bunches", {"clustering": 0.5}, ".clustering", "should be greater than or equal to 1"),
    _shadow("without the host", {"removeHeaders": ["host"]}, ".removeHeaders", "mirrored requests need host, content-length and content-type"),
    _shadow("without the router's headers", {"removeHeaders": ["x-agentrollout-pair"]}, ".removeHeaders[0]", "are the router's own"),
    _shadow("without a header twice", {"removeHeaders": ["a", "a"]}, ".removeHeaders[1]", "Duplicate value"),
    _shadow("without 33 headers", {"removeHeaders": [f"h{n}" for n in range(33)]}, ".removeHeaders", "must have at most 32 items"),
    _shadow("with an unknown field", {"rate": "1%"}, "", 'unknown field "spec.shadow.rate"'),
    Refusal("metric called shadow beside a shadow", "spec", rollout()["spec"] | {"shadow": {}, "analysis": {"metrics": [_own(_BAD) | {"name": "shadow"}]}},
            "spec.analysis.metrics", "shadow is the name of what spec.shadow compares: choose another name"),
]  # fmt: skip

_WINDOW = "spec.windows[0]"
PEOPLE = [
    Refusal("window of four fields", "spec.windows", [{"cron": "0 9 * *", "duration": "1h"}], f"{_WINDOW}.cron",
            "must have five fields: minute, hour, day of month, month, day of week, such as 0 9 * * mon-fri"),
    Refusal("window without a cron", "spec.windows", [{"duration": "1h"}], f"{_WINDOW}.cron", "Required value"),
    Refusal("window without a duration", "spec.windows", [{"cron": "0 9 * * *"}], f"{_WINDOW}.duration", "Required value"),
    Refusal("window of no time", "spec.windows", [{"cron": "0 9 * * *", "duration": "0s"}], f"{_WINDOW}.duration",
            "must be a duration above zero"),
    Refusal("window without a zone", "spec.windows", [{"cron": "0 9 * * *", "duration": "1h", "timeZone": ""}],
            f"{_WINDOW}.timeZone", "must be a time zone, such as Europe/Berlin"),
    Refusal("17 windows", "spec.windows", [{"cron": "0 9 * * *", "duration": "1h"}] * 17, "spec.windows",
            "must have at most 16 items"),
    Refusal("actionHistoryLimit below 0", "spec.actionHistoryLimit", -1, "spec.actionHistoryLimit",
            "should be greater than or equal to 0"),
]  # fmt: skip

REFUSALS = [*STAGES, *AGENT, *SHADOW, *PEOPLE, *REST]
