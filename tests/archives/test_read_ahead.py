"""What unpacks ahead of its reader: the same bytes, errors and counts, on the reader's own thread."""

from __future__ import annotations

import gzip
import tarfile
import threading
from pathlib import Path

import pytest

from ollama_ferry.archives.read_ahead import ReadAhead
from ollama_ferry.archives.unpacking import unpacked
from ollama_ferry.errors import Damaged
from ollama_ferry.places.archive.file import ArchiveFile
from support.stores import StoreBuilder, weights


class Steps:
    """Bytes in steps of chosen sizes, which may end in an error."""

    def __init__(self, sizes: list[int], ahead: ReadAhead, failure: Exception | None = None) -> None:
        self.position = 0
        self._sizes, self._ahead, self._failure = iter(sizes), ahead, failure

    def read(self, size: int, /) -> bytes:
        count = next(self._sizes, 0)
        if not count and self._failure is not None:
            raise self._failure
        self._ahead.count(count)
        begin, self.position = self.position, self.position + count
        return bytes(at % 251 for at in range(begin, begin + count))

    def skip(self, count: int) -> None:
        raise NotImplementedError


def begun(sizes: list[int], counts: list[int], failure: Exception | None = None) -> ReadAhead:
    thread = threading.current_thread()

    def on_read(count: int) -> None:
        assert threading.current_thread() is thread
        counts.append(count)

    ahead = ReadAhead(on_read)
    ahead.begin(Steps(sizes, ahead, failure))
    return ahead


@pytest.mark.parametrize("size", [1, 300, 70_000, 2_000_000])
def test_what_is_read_is_what_was_there(size: int) -> None:
    counts: list[int] = []
    ahead = begun([10, 600_000, 1, 5, 90_000], counts)
    ahead.skip(7)
    parts = list(iter(lambda: ahead.read(size), b""))
    whole = bytes(at % 251 for at in range(690_016))
    assert b"".join(parts) == whole[7:] and max(map(len, parts)) <= size
    assert ahead.position == sum(counts) == 690_016 and ahead.read(5) == b""


def test_an_error_comes_behind_the_bytes_before_it() -> None:
    ahead = begun([100_000], [], Damaged("it is cut short"))
    assert len(ahead.read(200_000)) == 100_000
    with pytest.raises(Damaged, match="cut short"):
        ahead.read(1)
    assert ahead.read(1) == b""


def test_what_the_reader_is_told_ends_the_reading() -> None:
    def refuse(count: int) -> None:
        raise KeyboardInterrupt

    ahead = ReadAhead(refuse)
    ahead.begin(Steps([600_000] * 100, ahead))
    with pytest.raises(KeyboardInterrupt):
        ahead.read(1)
    ahead.close(wait=True)
    assert not [thread for thread in threading.enumerate() if thread.name == "inflate"]


def test_an_archive_that_is_let_go_of_leaves_no_thread(source: StoreBuilder, tmp_path: Path) -> None:
    source.model("big:1", [("model", weights(6_000_000))])
    archive = tmp_path / "x.tar.gz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as tar:
        tar.add(source.root, ".")
    with ArchiveFile(archive) as file:
        next(iter(file.stream().entries()))
        # Begun anew while the first one is under way: both read the same file.
        assert len(file.stream().scan().models) == 1
        next(iter(file.stream().entries()))
    assert not [thread for thread in threading.enumerate() if thread.name == "inflate"]


@pytest.mark.parametrize("decoder", ["zlib-ng", "isal", "zlib"])
@pytest.mark.parametrize("members", [1, 3])
def test_each_decoder_reads_the_same(monkeypatch: pytest.MonkeyPatch, decoder: str, members: int) -> None:
    from io import BytesIO

    from ollama_ferry.archives import unpacking

    content = weights(300_000)
    packed = b"".join(gzip.compress(content, 6) for _ in range(members))
    for name, attribute in (("zlib-ng", "_zlib_ng"), ("isal", "_igzip")):
        if name == decoder:
            break
        monkeypatch.setattr(unpacking, attribute, lambda: None)
    data = unpacked(BytesIO(packed), "gzip")
    assert b"".join(iter(lambda: data.read(100_000), b"")) == content * members
    for damaged in (packed[:-8] + bytes(4) + packed[-4:], packed[:-4] + bytes(4), packed[:-1]):
        broken = unpacked(BytesIO(damaged), "gzip")
        with pytest.raises(Damaged):
            while broken.read(100_000):
                pass
