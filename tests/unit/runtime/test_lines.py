import pytest

from controller.runtime.lines import LineSplitter


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"one\ntwo\n"], [b"one", b"two"]),
        ([b"on", b"e\nt", b"wo\n"], [b"one", b"two"]),
        ([b"one", b"\n"], [b"one"]),
        ([b"unfinished"], []),
        ([b"one\n\n \n", b"\n", b"two\n"], [b"one", b"two"]),
        ([b"one\r\n"], [b"one\r"]),
        ([b"", b"one\n"], [b"one"]),
    ],
)
def test_lines_are_whole_however_they_arrive(chunks: list[bytes], lines: list[bytes]) -> None:
    splitter = LineSplitter()
    assert [line for chunk in chunks for line in splitter.feed(chunk)] == lines


def test_a_line_has_no_largest_length() -> None:
    splitter = LineSplitter()
    for _ in range(1000):
        assert splitter.feed(b"x" * 65536) == []
    assert [len(line) for line in splitter.feed(b"\n")] == [65_536_000]
