"""Bodies without their content encoding, in bounded memory: a few bytes can stand for gigabytes."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import Any

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_GZIP = zlib.MAX_WBITS + 16
_ZLIB = zlib.MAX_WBITS
_RAW = -zlib.MAX_WBITS
_ZSTD = {int(zstd.DecompressionParameter.window_log_max): 23}
"""8 MiB, as RFC 9659 bounds it for HTTP; a frame could ask for far more than the body has."""

_MOST_MEMBERS = 128
"""Of a body. Each takes time even if there is nothing in it, and a body has room for a hundred thousand."""


class TooLargeError(Exception):
    """There is more than the limit."""


class UnknownEncodingError(Exception):
    """The encoding is none that is understood."""


class BrokenBodyError(Exception):
    """The bytes are not what the encoding says, or end too early.

    Attributes:
        readable: What comes before.
    """

    def __init__(self, readable: bytes) -> None:
        """See the class."""
        super().__init__()
        self.readable = readable


def unpack(body: bytes, encodings: str, limit: int) -> bytes:
    """The body without its encodings.

    Args:
        body: As it came.
        encodings: Value of its ``content-encoding``, perhaps empty.
        limit: Bytes of each form of it.

    Raises:
        TooLargeError: If it is larger than ``limit``.
        UnknownEncodingError: If an encoding is none that is understood.
        BrokenBodyError: If it cannot be unpacked to its end.
    """
    if len(body) > limit:
        raise TooLargeError
    for name in reversed([each.strip().lower() for each in encodings.split(",") if each.strip()]):
        if name not in _DECODERS:
            raise UnknownEncodingError
        # An answer without a body may still say how it would have been packed.
        body = _DECODERS[name](body, limit) if body else body
    return body


def _gzip(body: bytes, limit: int) -> bytes:
    return _inflate(body, limit, _GZIP)


def _deflate(body: bytes, limit: int) -> bytes:
    """With the header that the standard asks for or, as some send it, without."""
    has_header = body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0
    return _inflate(body, limit, _ZLIB if has_header else _RAW)


def _inflate(body: bytes, limit: int, format_: int) -> bytes:
    return _members(body, limit, lambda: zlib.decompressobj(format_), zlib.error)


def _zstd(body: bytes, limit: int) -> bytes:
    return _members(body, limit, lambda: zstd.ZstdDecompressor(options=_ZSTD), zstd.ZstdError)


def _members(body: bytes, limit: int, begin: Callable[[], Any], error: type[Exception]) -> bytes:
    """All members, or frames; each of them is bounded by what the ones before it leave."""
    found = bytearray()
    for _ in range(_MOST_MEMBERS):
        if not body:
            return bytes(found)
        decoder = begin()
        try:
            found += decoder.decompress(body, limit + 1 - len(found))
        except error:
            raise BrokenBodyError(bytes(found)) from None
        if len(found) > limit:
            raise TooLargeError
        if not decoder.eof:
            raise BrokenBodyError(bytes(found))
        body = decoder.unused_data
    if body:
        raise TooLargeError
    return bytes(found)


def _brotli(body: bytes, limit: int) -> bytes:
    decoder = brotli.Decompressor()
    try:
        found: bytes = decoder.process(body, output_buffer_limit=limit + 1)
    except brotli.error:
        raise BrokenBodyError(b"") from None
    if len(found) > limit:
        raise TooLargeError
    if not decoder.is_finished():
        raise BrokenBodyError(found)
    return found


def _as_it_is(body: bytes, _limit: int) -> bytes:
    return body


_DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
    "identity": _as_it_is,
}
