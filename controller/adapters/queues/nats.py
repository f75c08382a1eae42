"""A queue in NATS JetStream: it outlives processes, and many workers share it.

One stream with work-queue retention, on disk, and one durable pull consumer for all workers. Both are made if they are
missing and else used as they are, so that whoever runs the server may set bounds and replicas.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from urllib.parse import urlsplit

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext, api
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError

from controller.adapters.shadow_ports import QueueFullError, TooLargeError
from controller.runtime.backoff import Backoff

STREAM = "AGENTROLLOUT_SHADOW"
SUBJECT = "agentrollout.shadow.comparisons"
CONSUMER = "judges"

MAX_MESSAGES = 100_000
MAX_BYTES = 2 << 30
MAX_PAYLOAD_BYTES = 16 << 20
"""A message is smaller, before it is compressed: whoever may write to the stream must not take a worker's memory."""
DUPLICATES_SECONDS = 600.0
"""How long the stream knows the keys that were put; a retry of a put whose answer was lost comes within seconds."""
PATIENCE_SECONDS = 30.0

_STORE_FAILED = 10077  # JSStreamStoreFailedF: the stream's bounds are reached
_MESSAGE_TOO_LARGE = 10054  # JSStreamMessageExceedsMaximumErr
_ANSWER_SECONDS = 5.0
_CONNECT_SECONDS = 5.0
_COUNT_SECONDS = 2.0
_PORT = 4222
"""Where NATS listens unless it is told otherwise."""
_BACKOFF = Backoff(base=0.2, cap=5.0)

_log = structlog.get_logger(__name__)


class NatsDelivery:
    """See ``Delivery``. An answer that does not reach the server leads to another delivery, which records tell apart."""

    def __init__(self, message: Msg) -> None:
        """As it came."""
        self._message = message
        self.attempt = int(message.metadata.num_delivered)
        """Counts from 1."""

    @property
    def payload(self) -> bytes:
        """See ``Delivery.payload``."""
        unpacking = zlib.decompressobj()
        try:
            payload = unpacking.decompress(self._message.data, MAX_PAYLOAD_BYTES)
        except zlib.error as error:
            raise ValueError("the message is not compressed as it should be") from error
        if not unpacking.eof:
            raise ValueError("the message is too large, or has no end")
        return payload

    async def working(self) -> None:
        """See ``Delivery.working``."""
        with contextlib.suppress(nats.errors.Error):
            await self._message.in_progress()

    async def done(self) -> None:
        """See ``Delivery.done``."""
        with contextlib.suppress(nats.errors.Error):
            await self._message.ack()

    async def again(self, seconds: float) -> None:
        """See ``Delivery.again``."""
        with contextlib.suppress(nats.errors.Error):
            await self._message.nak(delay=seconds)


class NatsQueue:
    """See ``Queue``. Messages are compressed."""

    def __init__(self, client: Client, patience: float) -> None:
        """Use ``connect``."""
        self.patience = patience
        self._client = client
        self._stream: JetStreamContext = client.jetstream(timeout=_ANSWER_SECONDS)
        self._subscription: JetStreamContext.PullSubscription | None = None
        self._fetching = asyncio.Lock()
        self._waiting = 0
        self._counting: asyncio.Task[None] | None = None

    @classmethod
    async def connect(cls, url: str, *, patience: float = PATIENCE_SECONDS) -> NatsQueue:
        """A queue at a server.

        Args:
            url: ``nats://host:port`` or ``tls://host:port``, which may have a user and a password.
            patience: Seconds of silence after which a delivery goes to another worker; of a consumer that is there
                already its own counts.

        Raises:
            OSError: The server cannot be reached, or has no JetStream; the message names neither user nor password.
        """
        client, problems = Client(), _Problems()
        queue = cls(client, patience)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                await client.connect(
                    url,
                    name="agentrollout-shadow",
                    max_reconnect_attempts=-1,
                    reconnect_time_wait=1,
                    error_cb=problems.hear,
                )
            problems.connected = True
            await queue._prepare()
        except (nats.errors.Error, TimeoutError) as error:
            await client.close()
            at = urlsplit(url)
            raise OSError(
                f"NATS with JetStream cannot be used at {at.hostname}:{at.port or _PORT} ({_told(problems.last or error)}): "
                "is it running there, as nats-server -js?"
            ) from error
        return queue

    async def put(self, key: str, payload: bytes) -> None:
        """See ``Queue.put``."""
        body = zlib.compress(payload, 1)
        if (
            len(payload) >= MAX_PAYLOAD_BYTES or len(body) > self._client.max_payload - 1024
        ):  # with its headers
            raise TooLargeError
        failures = 0
        while True:
            try:
                await self._stream.publish(
                    SUBJECT,
                    body,
                    stream=STREAM,
                    headers={api.Header.MSG_ID.value: key},
                    timeout=_ANSWER_SECONDS,
                )
            except APIError as error:
                if error.err_code == _STORE_FAILED:
                    raise QueueFullError from error
                if error.err_code == _MESSAGE_TOO_LARGE:
                    raise TooLargeError from error
            except (nats.errors.Error, TimeoutError):
                pass  # the server may have it all the same: the key makes the next try the same message
            else:
                return
            _check_cancelled()
            failures += 1
            await asyncio.sleep(_BACKOFF.delay(failures))

    async def get(self) -> NatsDelivery:
        """See ``Queue.get``."""
        failures = 0
        while True:
            # One request at a time: the end of one must not be taken for that of another.
            async with self._fetching:
                try:
                    assert self._subscription is not None  # noqa: S101  connect has made it
                    message = (await self._subscription.fetch(1, timeout=_ANSWER_SECONDS))[0]
                except TimeoutError:  # nothing to do, or the server has been started anew
                    _check_cancelled()
                    continue
                except nats.errors.Error:
                    failures += 1
                else:
                    return NatsDelivery(message)
            await asyncio.sleep(_BACKOFF.delay(failures))

    @property
    def waiting(self) -> int:
        """Messages that nobody is done with, a few seconds ago; of all processes."""
        return self._waiting

    @property
    def problem(self) -> str:
        """See ``Queue.problem``."""
        return "" if self._client.is_connected else "the queue in NATS cannot be reached"

    async def close(self) -> int:
        """Nothing is lost: what nobody is done with stays in the stream."""
        with contextlib.suppress(nats.errors.Error, TimeoutError):
            await self._client.flush(timeout=2)
        await self._client.close()
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.gather(self._counting, return_exceptions=True)
        return 0

    async def _prepare(self) -> None:
        try:
            await self._stream.stream_info(STREAM)
        except NotFoundError:
            await self._stream.add_stream(
                api.StreamConfig(
                    name=STREAM,
                    subjects=[SUBJECT],
                    retention=api.RetentionPolicy.WORK_QUEUE,
                    storage=api.StorageType.FILE,
                    discard=api.DiscardPolicy.NEW,
                    max_msgs=MAX_MESSAGES,
                    max_bytes=MAX_BYTES,
                    duplicate_window=DUPLICATES_SECONDS,
                )
            )
        self._subscription = await self._stream.pull_subscribe(
            SUBJECT,
            durable=CONSUMER,
            stream=STREAM,
            config=api.ConsumerConfig(
                ack_policy=api.AckPolicy.EXPLICIT,
                ack_wait=self.patience,
                max_deliver=-1,  # the worker counts, so that a dead letter ends in a record
                max_ack_pending=-1,
            ),
        )
        info = await self._subscription.consumer_info()
        self.patience = info.config.ack_wait or self.patience
        self._counting = asyncio.create_task(self._count())

    async def _count(self) -> None:
        while True:
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                self._waiting = (await self._stream.stream_info(STREAM)).state.messages
            _check_cancelled()
            await asyncio.sleep(_COUNT_SECONDS)


def _check_cancelled() -> None:
    """Python 3.11's ``wait_for``, by which the client waits, forgets a cancellation that comes together with the answer."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class _Problems:
    """What the client tells. Until it is connected, which it tries again and again, the last says all."""

    def __init__(self) -> None:
        self.connected = False
        self.last: Exception | None = None

    async def hear(self, error: Exception) -> None:
        if self.connected:
            _log.warning("nats_problem", error=type(error).__name__)
        else:
            self.last = error


def _told(error: Exception) -> str:
    if isinstance(error, ServiceUnavailableError):
        return "it has no JetStream"
    return (isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__
