"""What Envoys tell of single requests: configured on both sides, received, and turned into trials of conversations.

Only routes of rollouts that ask for it remember the conversation, and only what is remembered is logged. Envoy keeps a
few entries and drops what it cannot send: no user ever waits for a replica of ours. It cannot hash, so the value of the
affinity header comes here, is hashed at once under a key that this process made for itself, and goes nowhere else.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import grpc
import structlog
from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2
from envoy.extensions.filters.http.set_filter_state.v3 import set_filter_state_pb2
from envoy.service.accesslog.v3 import als_pb2 as service_pb2
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.wrappers_pb2 import StringValue

from controller.adapters.envoy.metrics import GRPC_ERRORS
from controller.adapters.envoy.naming import OPERATORS, is_sampled, version_of
from controller.adapters.envoy.resources import pack
from controller.core.traffic import TrafficTable
from controller.core.trials import Request, TrialCounts, Trials, split_name

_log = structlog.get_logger(__name__)

FILTER = "envoy.filters.http.set_filter_state"
"""The HTTP filter that remembers the conversation, where a route tells it to."""

_REMEMBERED = "agentrollout.conversation"
"""What it is remembered under: the split's name, ``|``, and the affinity header's value."""

_LONGEST = 256
"""Characters of the header's value that tell conversations apart."""

_FLUSH_AFTER = timedelta(seconds=1)
_FLUSH_BYTES = 16_384
"""Of each of Envoy's workers: the most that it keeps while a replica does not take it."""

_GRPC_STATUS = "grpc-status"

_SERVICE = "envoy.service.accesslog.v3.AccessLogService"

_BROKEN = (
    "upstream_remote_reset",
    "upstream_connection_failure",
    "upstream_connection_termination",
    "upstream_protocol_error",
    "upstream_request_timeout",
)
"""What breaks an answer, perhaps after a good status; everything else that goes wrong has a status of 5xx."""


def access_log() -> Any:
    """The listener's log, of what routes had remembered."""
    common = {
        "log_name": "conversations",
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": OPERATORS}},
        "buffer_flush_interval": _FLUSH_AFTER,
        "buffer_size_bytes": {"value": _FLUSH_BYTES},
        "filter_state_objects_to_log": [_REMEMBERED],
    }
    logger = als_pb2.HttpGrpcAccessLogConfig(
        common_config=common,
        additional_response_headers_to_log=[_GRPC_STATUS],
        additional_response_trailers_to_log=[_GRPC_STATUS],
    )
    only = cel_pb2.ExpressionFilter(expression=f"'{_REMEMBERED}' in filter_state")
    cel = {"name": "envoy.access_loggers.extension_filters.cel", "typed_config": pack(only)}
    return accesslog_pb2.AccessLog(
        name="envoy.access_loggers.http_grpc",
        typed_config=pack(logger),
        filter={"extension_filter": cel},
    )


def remember(table: TrafficTable) -> AnyMessage:
    """The configuration of ``FILTER`` for the routes of conversations that are recognised by their header."""
    text = f"{split_name(table)}|%REQ({table.affinity_header}):{_LONGEST}%"
    value = {
        "object_key": _REMEMBERED,
        "factory_key": "envoy.string",
        "format_string": {"text_format_source": {"inline_string": text}},
    }
    return pack(set_filter_state_pb2.Config(on_request_headers=[value]))


class AccessLog:
    """Receives the logs of all Envoys while this replica leads, so that one ledger sees every request of a conversation.

    Others refuse the streams: Envoy then tries the next replica.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic, trials: Trials | None = None) -> None:
        """Nothing is taken before ``lead``.

        Args:
            monotonic: Seconds that never go back.
            trials: Where the requests go; left out, with the usual limit of memory.
        """
        self._monotonic = monotonic
        self._trials = trials or Trials()
        self._key = secrets.token_bytes(32)
        self._leads = False
        self._over = asyncio.Event()

    def lead(self, leads: bool) -> None:
        """Whether this replica leads from now on. One that no longer does sends the Envoys away and forgets whom it met."""
        if leads is self._leads:
            return
        self._leads = leads
        self._over.set()
        self._over = asyncio.Event()
        self._trials.interrupt(self._monotonic())

    def publish(self, table: TrafficTable) -> None:
        """The table is what is wanted of its rollout."""
        self._trials.publish(table, self._monotonic())

    def remove(self, key: str) -> None:
        """The rollout ``namespace/name`` is gone."""
        self._trials.remove(key)

    def counts(self) -> Iterator[TrialCounts]:
        """What was judged up to now."""
        return self._trials.counts(self._monotonic())

    def add_to(self, server: Any) -> None:
        """Have the gRPC server take the logs."""
        handler = grpc.stream_unary_rpc_method_handler(
            self._serve,
            request_deserializer=service_pb2.StreamAccessLogsMessage.FromString,
            response_serializer=service_pb2.StreamAccessLogsResponse.SerializeToString,
        )
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(_SERVICE, {"StreamAccessLogs": handler}),)
        )

    async def _serve(self, messages: Any, context: Any) -> Any:
        if self._leads:
            reader = asyncio.create_task(self._read(messages))
            over = asyncio.create_task(self._over.wait())
            try:
                await asyncio.wait({reader, over}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                reader.cancel()
                over.cancel()
                ended, _ = await asyncio.gather(reader, over, return_exceptions=True)
            if isinstance(ended, Exception):
                _log.warning("access_log_stream_failed", error=str(ended))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "another replica takes the log")

    async def _read(self, messages: Any) -> None:
        async for message in messages:
            now = self._monotonic()
            for entry in message.http_logs.log_entry:
                if (found := self._request(entry)) is not None:
                    self._trials.take(*found, now)

    def _request(self, entry: Any) -> tuple[str, Request] | None:
        """The rollout and the request; None if the entry lacks what it takes."""
        common = entry.common_properties
        if _REMEMBERED not in common.filter_state_objects or not common.upstream_cluster:
            return None
        remembered = StringValue.FromString(common.filter_state_objects[_REMEMBERED].value).value
        split, _, conversation = remembered.partition("|")
        rollout, revision = version_of(common.upstream_cluster)
        if is_sampled(common.upstream_cluster):
            # Captured conversations are nobody's trials, but they were there, and may be sampled no more tomorrow.
            split = ""
        return rollout, Request(self._hash(conversation), split, revision, _is_bad(entry))

    def _hash(self, conversation: str) -> int:
        digest = hashlib.blake2b(conversation.encode(), key=self._key, digest_size=8).digest()
        return int.from_bytes(digest, "big")


def _is_bad(entry: Any) -> bool:
    """As ``errors`` counts it: 5xx, a break or silence after a good status, a gRPC status that is the server's fault."""
    response, flags = entry.response, entry.common_properties.response_flags
    if response.response_code.value >= 500 or any(getattr(flags, name) for name in _BROKEN):
        return True
    status = response.response_trailers.get(_GRPC_STATUS) or response.response_headers.get(_GRPC_STATUS)
    return status in GRPC_ERRORS
