"""Clusters in which sampled requests are captured, and to which they are mirrored.

A sampled conversation is answered by stable in clusters of its own. Only these mirror what they get, and only these and
the mirrors' own clusters capture what passes; whatever an Envoy holds for it is bounded here, because users must not
feel who listens: not a recorder that hangs, and not a candidate that reads nothing.
docs/adr/0033-mirrors-and-capture.md has what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from envoy.config.route.v3 import route_components_pb2
from envoy.extensions.filters.http.buffer.v3 import buffer_pb2
from envoy.extensions.filters.http.ext_proc.v3 import ext_proc_pb2, processing_mode_pb2
from envoy.extensions.filters.http.header_mutation.v3 import header_mutation_pb2
from envoy.extensions.filters.http.upstream_codec.v3 import upstream_codec_pb2

from controller.adapters.envoy.clusters import is_ip, protocol_of, straight
from controller.adapters.envoy.naming import (
    ARTIFACT_HEADER,
    NOISE_SUFFIX,
    RECORDER,
    SHADOW_SUFFIX,
    Sampled,
    cluster_name,
    sampled_name,
)
from controller.adapters.envoy.options import RouterOptions
from controller.adapters.envoy.resources import Resource, overwriting, pack, resource
from controller.adapters.envoy.subjects import (
    CLOSES_LATE,
    NOISE_HEADER,
    PAIR_HEADER,
    REPLAY_HEADER,
    SIDE_HEADER,
    SUBJECT_HEADER,
    TIMEOUT_HEADER,
    encode_subject,
    encode_target,
)
from controller.core.shadow.exchange import Side
from controller.core.traffic import Backend, ShadowSplit, TrafficTable

SHADOW_HEADER = "x-agentrollout-shadow"
"""Tells an agent that nobody will see its answer."""

CREDENTIALS = (
    r"(.*[-_])?(auth(entication|orization)?|cookie2?|access[-_]?key|client[-_]cert|principal|assertion|signature"
    r"|oidc[-_](data|identity))([-_].*)?"
    r"|(.*[-_])?key"
    r"|.*(secret|passwo?r?d|jwt|credential|bearer|api[-_]?key).*"
    r"|.*token([^s].*)?"  # but tokens are what models count
)
"""Names of headers that by custom let whoever has them act as somebody; in lower case."""

SESSIONS = tuple(
    f"{prefix}{name}"
    for prefix in ("", "x-")
    for name in ("session", "session-id", "session_id", "sessionid")
)
"""Names of headers that by custom do so as a cookie does; one of them may be the rollout's own name of the conversation."""

CAPTURED_HEADERS = (
    ":method",
    ":path",
    ":status",
    "accept",
    "accept-language",
    "content-encoding",
    "content-type",
    "grpc-message",
    "grpc-status",
    PAIR_HEADER,
)
"""All that leave the router for the process that compares."""

LARGEST_BODY = 1 << 20
"""Bytes of a request that is mirrored."""

MIRRORED_AT_ONCE = 512
"""Requests in flight to one mirror; with bodies of the largest kind that nobody reads they hold half a gibibyte."""

FIT_TO_MIRROR: tuple[dict[str, Any], ...] = (
    {
        "name": "content-length",
        "range_match": {"start": LARGEST_BODY + 1, "end": (1 << 63) - 1},
        "invert_match": True,
        "treat_missing_header_as_empty": True,
    },
    {"name": "upgrade", "present_match": True, "invert_match": True},
)
"""What a request is like that may be mirrored: no larger, as far as it says, and no tunnel."""


def addressed(table: TrafficTable) -> Iterator[tuple[str, Backend]]:
    """The clusters of sampled conversations and the mirrors, with where they lead."""
    if not table.sampled_ppm or table.candidate is None:
        return
    for how, _ in (*mirrored_shares(table), *unmirrored_shares(table)):
        yield sampled_name(table.key, table.stable, how), table.stable
    yield _mirror_name(table.key, table.candidate, SHADOW_SUFFIX), table.candidate
    if table.noise_ppm:
        yield _mirror_name(table.key, table.stable, NOISE_SUFFIX), table.stable


def mirrored_shares(table: TrafficTable) -> tuple[tuple[Sampled, int], ...]:
    """What becomes of requests of sampled conversations, and of how many, where they may be mirrored."""
    shares = ((Sampled.ONCE, table.sampled_ppm - table.noise_ppm), (Sampled.TWICE, table.noise_ppm))
    return tuple(each for each in shares if each[1])


def unmirrored_shares(table: TrafficTable) -> tuple[tuple[Sampled, int], ...]:
    """The same where they may not: of the same conversations, so that all that these ask is counted apart."""
    return ((Sampled.NEVER, table.sampled_ppm),) if table.sampled_ppm else ()


def mirrors(table: TrafficTable, options: RouterOptions) -> tuple[Resource, ...]:
    """The clusters, mirrors first: what is mirrored to has to be there."""
    if not table.sampled_ppm or table.shadow is None or table.candidate is None:
        return ()
    shadow = table.shadow
    found = [_mirror(table, table.candidate, Side.CANDIDATE, shadow, options)]
    if table.noise_ppm:
        found.append(_mirror(table, table.stable, Side.NOISE, shadow, options))
    shares = (*mirrored_shares(table), *unmirrored_shares(table))
    found += [_sampled(table, shadow, how, options) for how, _ in shares]
    return tuple(resource(each.name, each) for each in found)


def _mirror_name(key: str, backend: Backend, suffix: str) -> str:
    return f"{cluster_name(key, backend.revision)}{suffix}"


def _mirror(
    table: TrafficTable, backend: Backend, side: Side, shadow: ShadowSplit, options: RouterOptions
) -> Any:
    """Where requests are answered to nobody.

    The request is held until it is there as a whole, or is too large: otherwise an agent that reads slowly would hold up the
    user's upload, which Envoy reads no faster than its mirrors take it.
    """
    protocol = protocol_of(backend)
    protocol.common_http_protocol_options.max_stream_duration.FromTimedelta(shadow.timeout)
    whole = buffer_pb2.Buffer(max_request_bytes={"value": LARGEST_BODY})
    _filter(protocol, "envoy.filters.http.buffer", whole)
    _capture(protocol, side, shadow, _replay_metadata(table, backend, shadow))
    # Envoy takes a mirror for a request of its own, but who it is from is outside.
    _send_without(protocol, "x-envoy-internal")
    suffix = SHADOW_SUFFIX if side is Side.CANDIDATE else NOISE_SUFFIX
    cluster = straight(_mirror_name(table.key, backend, suffix), backend, options, protocol)
    (thresholds,) = cluster.circuit_breakers.thresholds
    for limit in (thresholds.max_connections, thresholds.max_pending_requests, thresholds.max_requests):
        limit.value = min(limit.value, MIRRORED_AT_ONCE)
    # Once it is whole it goes on in one piece, of which none must be left to wait for the agent to read it.
    cluster.per_connection_buffer_limit_bytes.value = 2 * LARGEST_BODY
    return cluster


def _sampled(table: TrafficTable, shadow: ShadowSplit, how: Sampled, options: RouterOptions) -> Any:
    """Where stable answers sampled conversations, to their users."""
    assert table.candidate is not None  # noqa: S101 - the caller has looked
    protocol = protocol_of(table.stable)
    if how is not Sampled.NEVER:
        protocol.request_mirror_policies.append(_policy(table, table.candidate, SHADOW_SUFFIX))
        _capture(protocol, Side.STABLE, shadow, {NOISE_HEADER: "1"} if how is Sampled.TWICE else {})
        # Stable must not know that it is looked at.
        _send_without(protocol, PAIR_HEADER)
    if how is Sampled.TWICE:
        protocol.request_mirror_policies.append(_policy(table, table.stable, NOISE_SUFFIX))
    return straight(sampled_name(table.key, table.stable, how), table.stable, options, protocol)


def _policy(table: TrafficTable, backend: Backend, suffix: str) -> Any:
    """A mirror of what stable gets, without what lets its reader act as the user."""
    assert table.shadow is not None  # noqa: S101 - the caller has looked
    private = {"remove_on_match": {"key_matcher": {"safe_regex": {"regex": CREDENTIALS}}}}
    # Without what names the conversation an agent could not go on with it.
    sessions = (name for name in SESSIONS if name != table.affinity_header)
    removed = [private, *({"remove": name} for name in (*sessions, *table.shadow.removed_headers))]
    own = (overwriting(SHADOW_HEADER, "1"), overwriting(ARTIFACT_HEADER, backend.artifact_id))
    return route_components_pb2.RouteAction.RequestMirrorPolicy(
        cluster=_mirror_name(table.key, backend, suffix),
        disable_shadow_host_suffix_append=True,
        request_headers_mutations=[*removed, *({"append": each} for each in own)],
        host_rewrite_literal=_host(table, backend),
    )


def _host(table: TrafficTable, backend: Backend) -> str:
    """The host that the mirror asks for, where it is not the one that stable is asked for."""
    if named_by_host(backend):
        return backend.host
    return table.hosts[0] if named_by_host(table.stable) else ""


def named_by_host(backend: Backend) -> bool:
    """Whether requests to it carry its own host: behind TLS the name usually also selects the site."""
    return backend.tls and not is_ip(backend.host)


def _replay_metadata(table: TrafficTable, backend: Backend, shadow: ShadowSplit) -> dict[str, str]:
    """Where the version is, if it may be asked once more; one that speaks HTTP/2 alone is not."""
    if not shadow.recorded_tools or backend.http2:
        return {}
    host = f"[{backend.host}]" if ":" in backend.host else backend.host
    url = f"{'https' if backend.tls else 'http'}://{host}:{backend.port}"
    return {REPLAY_HEADER: encode_target(url, backend.host if named_by_host(backend) else table.hosts[0])}


def _capture(protocol: Any, side: Side, shadow: ShadowSplit, more: dict[str, str]) -> None:
    """Tell the recorder what passes, and never wait for it; without it, requests pass all the same."""
    metadata = {
        SUBJECT_HEADER: encode_subject(shadow.subject),
        SIDE_HEADER: side.value,
        TIMEOUT_HEADER: f"{shadow.timeout.total_seconds():g}",
        **more,
    }
    kept = [name for name in CAPTURED_HEADERS if name not in shadow.removed_headers]
    mode = processing_mode_pb2.ProcessingMode
    filter_ = ext_proc_pb2.ExternalProcessor(
        grpc_service={
            "envoy_grpc": {"cluster_name": RECORDER, "skip_envoy_headers": True},
            "initial_metadata": [{"key": key, "value": value} for key, value in metadata.items()],
        },
        failure_mode_allow=True,
        observability_mode=True,
        processing_mode=mode(
            request_header_mode=mode.SEND,
            response_header_mode=mode.SEND,
            request_body_mode=mode.STREAMED,
            response_body_mode=mode.STREAMED,
            request_trailer_mode=mode.SEND,
            response_trailer_mode=mode.SEND,
        ),
        forward_rules={"allowed_headers": {"patterns": [{"exact": name} for name in kept]}},
        deferred_close_timeout=CLOSES_LATE,
    )
    _filter(protocol, "envoy.filters.http.ext_proc", filter_)


def _send_without(protocol: Any, header: str) -> None:
    """The end of the filters: what is left goes to the agent."""
    removal = header_mutation_pb2.HeaderMutation(mutations={"request_mutations": [{"remove": header}]})
    _filter(protocol, "envoy.filters.http.header_mutation", removal)
    _filter(protocol, "envoy.filters.http.upstream_codec", upstream_codec_pb2.UpstreamCodec())


def _filter(protocol: Any, name: str, settings: Any) -> None:
    protocol.http_filters.add(name=name, typed_config=pack(settings))
