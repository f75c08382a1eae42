"""Bodies are unpacked as far as they are allowed to grow, and no further."""

from __future__ import annotations

import gzip
import sys
import tracemalloc
import zlib

import brotli
import pytest

from controller.adapters.envoy.unpacking import (
    BrokenBodyError,
    TooLargeError,
    UnknownEncodingError,
    unpack,
)

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = pytest.mark.unit

TEXT = b"Where is my parcel? " * 100
LIMIT = 10_000


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


PACKED = {
    "": TEXT,
    "identity": TEXT,
    "gzip": gzip.compress(TEXT),
    "X-GZIP": gzip.compress(TEXT[:1000]) + gzip.compress(TEXT[1000:]),
    "deflate": zlib.compress(TEXT),
    " deflate ": raw_deflate(TEXT),
    "br": brotli.compress(TEXT),
    "zstd": zstd.compress(TEXT),
    "ZSTD": zstd.compress(TEXT[:1000]) + zstd.compress(TEXT[1000:]),
    "gzip, br": brotli.compress(gzip.compress(TEXT)),
}


@pytest.mark.parametrize("encodings", PACKED)
def test_a_body_is_what_was_packed(encodings: str) -> None:
    assert unpack(PACKED[encodings], encodings, LIMIT) == TEXT


@pytest.mark.parametrize("encodings", ["gzip", "deflate", "br", "zstd"])
def test_an_answer_without_a_body_is_empty_however_it_would_be_packed(encodings: str) -> None:
    assert unpack(b"", encodings, LIMIT) == b""


@pytest.mark.parametrize("encodings", PACKED)
def test_the_limit_itself_is_allowed_and_one_byte_more_is_not(encodings: str) -> None:
    limit = max(len(TEXT), len(PACKED[encodings]))
    assert unpack(PACKED[encodings], encodings, limit) == TEXT
    with pytest.raises(TooLargeError):
        unpack(PACKED[encodings], encodings, len(TEXT) - 1)


BOMB = bytes(50_000_000)


@pytest.mark.parametrize(
    ("encodings", "bomb"),
    [
        ("gzip", gzip.compress(BOMB)),
        ("gzip", gzip.compress(bytes(900)) * 5_000),
        ("deflate", zlib.compress(BOMB)),
        ("deflate", raw_deflate(BOMB)),
        ("br", brotli.compress(BOMB, quality=5)),
        ("zstd", zstd.compress(BOMB)),
        ("zstd", zstd.compress(bytes(900)) * 5_000),
        ("gzip, gzip", gzip.compress(gzip.compress(BOMB))),
    ],
)
def test_a_bomb_never_goes_off(encodings: str, bomb: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError):
            unpack(bomb, encodings, 200_000)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("encodings", ["gzip", "deflate", "br", "zstd"])
def test_of_a_body_that_was_cut_short_there_is_what_came(encodings: str) -> None:
    whole = PACKED[encodings]
    with pytest.raises(BrokenBodyError) as caught:
        unpack(whole[: len(whole) - 3], encodings, LIMIT)
    assert TEXT.startswith(caught.value.readable)


@pytest.mark.parametrize("encodings", ["gzip", "deflate", "br", "zstd"])
def test_what_is_not_packed_as_it_says_is_broken(encodings: str) -> None:
    with pytest.raises(BrokenBodyError):
        unpack(b"\x0fplain text", encodings, LIMIT)


def test_an_encoding_that_is_not_known_is_told_apart() -> None:
    with pytest.raises(UnknownEncodingError):
        unpack(TEXT, "compress", LIMIT)


def test_a_frame_that_asks_for_a_larger_window_than_http_has_is_not_given_it() -> None:
    options = {int(zstd.CompressionParameter.window_log): 27, int(zstd.CompressionParameter.checksum_flag): 1}
    packer = zstd.ZstdCompressor(options=options)
    with pytest.raises(BrokenBodyError):
        unpack(packer.compress(TEXT) + packer.flush(), "zstd", LIMIT)


@pytest.mark.parametrize(("encoding", "empty"), [("gzip", gzip.compress(b"")), ("zstd", zstd.compress(b""))])
def test_a_body_of_many_empty_parts_is_not_unpacked_to_its_end(encoding: str, empty: bytes) -> None:
    assert unpack(empty * 128, encoding, LIMIT) == b""
    with pytest.raises(TooLargeError):
        unpack(empty * 129, encoding, LIMIT)
