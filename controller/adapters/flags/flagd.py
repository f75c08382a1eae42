"""flagd: its stream by the OpenFeature provider, and a question every two seconds beside it.

The provider keeps the stream, tries again when it is lost and evaluates flags in this process. It cannot tell a stream that hangs
from one on which nothing happens; so all flags are also asked for by themselves.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import structlog
from openfeature.contrib.provider.flagd import FlagdProvider
from openfeature.contrib.provider.flagd.config import ResolverType
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEvent, ProviderEventDetails
from openfeature.exception import ProviderNotReadyError, TypeMismatchError
from openfeature.schemas.protobuf.flagd.sync.v1 import sync_pb2, sync_pb2_grpc

from controller.adapters.flags.ofrep import plain
from controller.core.flags import FlagBook, Value
from controller.runtime.clock import Clock

_log = structlog.get_logger(__name__)

POLL_SECONDS = 2.0
TIMEOUT_SECONDS = 2.0
RETRY_MILLISECONDS = 200

CONTEXT = EvaluationContext(targeting_key="agentrollout")
"""The same for every flag: a rollout has flags of its own."""

Resolve = Callable[[str, Any, EvaluationContext], Any]


class FlagdSource:
    """Follows one flagd until it is cancelled.

    Args:
        host: Where its sync service listens.
        port: The port of that service, 8015 unless told.
        ca_file: The bundle that its certificate is verified with; None speaks without TLS.
        book: What it says.
        clock: Source of time.
    """

    def __init__(self, host: str, port: int, ca_file: Path | None, book: FlagBook, clock: Clock) -> None:
        self._target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._ca_file = ca_file
        self._book = book
        self._clock = clock
        self._flags: set[str] = set()
        self._is_cut = False
        host = f"[{host}]" if ":" in host else host
        self._provider = FlagdProvider(
            host=host,
            port=port,
            tls=ca_file is not None,
            cert_path=str(ca_file) if ca_file else None,
            resolver_type=ResolverType.IN_PROCESS,
            retry_backoff_ms=RETRY_MILLISECONDS,
            retry_backoff_max_ms=RETRY_MILLISECONDS,
            # Its timers would keep a process from ending for as long as they run.
            retry_grace_period=0,
            sync_metadata_disabled=True,
        )

    async def run(self) -> None:
        """Follow the server; returns only by cancellation."""
        # What the provider has to say of a server that is away is said by the questions.
        logging.getLogger("openfeature.contrib").setLevel(logging.CRITICAL)
        loop = asyncio.get_running_loop()
        self._provider.attach(partial(self._told, loop))
        try:
            with suppress(ProviderNotReadyError):  # it goes on trying
                await asyncio.to_thread(self._provider.initialize, CONTEXT)
            async with self._channel() as channel:
                stub = sync_pb2_grpc.FlagSyncServiceStub(channel)
                while await self._ask(stub):
                    await self._clock.sleep(POLL_SECONDS)
            while True:
                if self._is_cut:
                    self._book.fail("its stream is broken", self._book.number(), self._clock.now())
                await self._clock.sleep(POLL_SECONDS)
        finally:
            self._provider.detach()
            self._provider.shutdown()

    def _channel(self) -> Any:
        if self._ca_file is None:
            return grpc.aio.insecure_channel(self._target)
        credentials = grpc.ssl_channel_credentials(self._ca_file.read_bytes())
        return grpc.aio.secure_channel(self._target, credentials)

    async def _ask(self, stub: Any) -> bool:
        """Ask once.

        Returns:
            Whether it is worth asking again: an older server has nothing but the stream.
        """
        number = self._book.number()
        try:
            answer = await stub.FetchAllFlags(sync_pb2.FetchAllFlagsRequest(), timeout=TIMEOUT_SECONDS)
            values = evaluate_all(answer.flag_configuration)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                _log.warning("flagd_without_questions", server=self._target)
                return False
            self._book.fail(error.details() or str(error.code()), number, self._clock.now())
        except Exception as error:  # noqa: BLE001  whatever it answers, the operator runs on
            self._book.fail(
                f"its configuration cannot be read: {type(error).__name__}", number, self._clock.now()
            )
        else:
            self._book.tell(values, number, self._clock.now())
        return True

    def _told(
        self, loop: asyncio.AbstractEventLoop, _: object, event: ProviderEvent, details: ProviderEventDetails
    ) -> None:
        """In a thread of the provider: the stream brought a configuration, or is broken."""
        self._is_cut = event in {ProviderEvent.PROVIDER_STALE, ProviderEvent.PROVIDER_ERROR}
        if self._is_cut:
            return
        self._flags.update(details.flags_changed or ())
        values = evaluate(self._flags, _resolvers(self._provider, "details"))
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(self._heard, values)

    def _heard(self, values: dict[str, Value]) -> None:
        self._book.tell(values, self._book.number(), self._clock.now())


def evaluate_all(configuration: str) -> dict[str, Value]:
    """The values of all flags of a flagd configuration.

    Raises:
        Exception: It cannot be read; the evaluator of flagd says so in many ways.
    """
    core = FlagdCore()
    core.set_flags(configuration)
    return evaluate(json.loads(configuration).get("flags", {}), _resolvers(core, "value"))


def evaluate(flags: Iterable[str], resolvers: list[Resolve]) -> dict[str, Value]:
    """The values of those flags that are there, enabled and can be evaluated."""
    found = {}
    for flag in flags:
        value = _value(flag, resolvers)
        if value is not None:
            found[flag] = plain(value)
    return found


def _value(flag: str, resolvers: list[Resolve]) -> Any:
    for resolve in resolvers:
        try:
            return resolve(flag, None, CONTEXT).value
        except TypeMismatchError:
            continue
        except Exception:  # noqa: BLE001  a rule may raise anything, as by dividing by zero; other flags are evaluated all the same
            return None
    return None


def _resolvers(evaluator: object, kind: str) -> list[Resolve]:
    """Whoever asks for a flag must name its type; it is not known here."""
    types = ("boolean", "string", "integer", "float", "object")
    return [getattr(evaluator, f"resolve_{each}_{kind}") for each in types]
