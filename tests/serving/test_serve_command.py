"""``ollama-ferry serve``: what is answered, to whom, and what a hostile client gets."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import re
import resource
import signal
import socket
import subprocess
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.engine.ports import Readable
from ollama_ferry.errors import UsageError
from ollama_ferry.model.manifests import Descriptor
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store
from ollama_ferry.serving.addresses import Address
from ollama_ferry.serving.page import page
from ollama_ferry.serving.room import Limits
from ollama_ferry.serving.server import Served, Server
from ollama_ferry.serving.shelf import ServedModel, Shelf
from support.command_line import ferry
from support.served import get, raw, read_all, serve_process
from support.stores import StoreBuilder, weights
from support.tools import require_tool

BIG = 3_000_000
WEIGHTS = weights(BIG)
PATH = "/v2/library/tiny"


@pytest.fixture
def filled(source: StoreBuilder) -> StoreBuilder:
    """A store with three models: two to serve, one of another host, and one that is nobody's business."""
    source.model("tiny:4m", [("model", WEIGHTS), ("template", b"{{ .Prompt }}")])
    source.model("hf.co/Org/Repo-GGUF:Q4_K_M", [("model", b"other weights")])
    source.model("secret:1", [("model", b"not to be served")])
    return source


def blob_of(builder: StoreBuilder, name: str, kind: str = "model") -> Descriptor:
    manifest = Store(builder.root).manifest(ModelName.parse(name))
    return next(blob for blob in manifest.blobs if blob.kind == kind)


@contextlib.contextmanager
def served(
    builder: StoreBuilder, *names: str, source: Store | None = None, limits: Limits | None = None, token: str = ""
) -> Iterator[tuple[Server, list[Served]]]:
    """Serve models in a thread; give the server and its log."""
    store = source or Store(builder.root)
    parsed = [ModelName.parse(name) for name in names or ("tiny:4m", "hf.co/Org/Repo-GGUF:Q4_K_M")]
    shelf = Shelf(store, [ServedModel.of(name, store.manifest(name)) for name in parsed])
    log: list[Served] = []
    with Server(shelf, token=token, log=log.append, limits=limits) as server:
        yield server, log


def error_code(body: bytes) -> str:
    (error,) = json.loads(body)["errors"]
    assert error["message"]
    return str(error["code"])


def until_logged(log: list[Served], count: int = 1) -> Served:
    deadline = time.monotonic() + 10
    while len(log) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return log[count - 1]


def test_manifest_is_given_by_tag_and_digest_as_it_is(filled: StoreBuilder) -> None:
    raw_manifest = filled.manifest_path("tiny:4m").read_bytes()
    digest = Store(filled.root).manifest(ModelName.parse("tiny:4m")).digest
    with served(filled) as (server, _):
        for reference in ("4m", "4M", str(digest), f"sha256%3A{digest.hex}"):
            status, headers, body = get(server.port, f"{PATH}/manifests/{reference}")
            assert (status, body) == (200, raw_manifest)
            assert headers["Content-Type"] == "application/vnd.docker.distribution.manifest.v2+json"
            assert headers["Docker-Content-Digest"] == str(digest)
        status, headers, body = get(server.port, f"{PATH}/manifests/4m", "HEAD")
        assert (status, body, headers["Content-Length"]) == (200, b"", str(len(raw_manifest)))
        # Letter case counts for no look-up of Ollama's, and other clients know lower case only.
        assert get(server.port, "/v2/org/repo-gguf/manifests/q4_k_m")[0] == 200
        assert json.loads(get(server.port, "/v2/")[2]) == {}
        assert json.loads(get(server.port, f"{PATH}/tags/list")[2]) == {"name": "library/tiny", "tags": ["4m"]}


@pytest.mark.parametrize(
    ("named", "given"),
    [
        ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.manifest.v1+json"),
        ("text/html", "application/vnd.docker.distribution.manifest.v2+json"),
        ("application/vnd.x+json\r\nX-Evil: 1", "application/vnd.docker.distribution.manifest.v2+json"),
    ],
)
def test_media_type_of_a_manifest_is_its_own_where_it_is_harmless(source: StoreBuilder, named: str, given: str) -> None:
    document = {"mediaType": named, "layers": [source.layer("model", b"weights")]}
    source.manifest("tiny:4m", json.dumps(document).encode())
    with served(source, "tiny:4m") as (server, _):
        _, headers, _ = get(server.port, f"{PATH}/manifests/4m")
        assert headers["Content-Type"] == given
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "X-Evil" not in headers


@pytest.fixture(params=["store", ".tar", ".tar.gz", ".tar.zst", ".zip"])
def anywhere(request: pytest.FixtureRequest, filled: StoreBuilder, tmp_path: Path) -> Iterator[int]:
    """The port of a server of tiny:4m out of every kind of place."""
    kind = request.param
    if kind == "store":
        with ollama_ferry.serve("tiny:4m", store=filled.root, listen="127.0.0.1:0") as server:
            yield server.port
        return
    archive = tmp_path / f"models{kind}"
    if kind == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as zipped:
            for path in filled.root.rglob("*"):
                zipped.write(path, path.relative_to(filled.root))
    else:
        ollama_ferry.export("*/*/*:*", archive, store=filled.root)
    with ollama_ferry.serve("tiny:4m", archive=archive, listen="127.0.0.1:0") as server:
        yield server.port


RANGES = [
    ("bytes=0-0", 0, 1),
    ("bytes=0-", 0, BIG),
    (f"bytes=1-{BIG}", 1, BIG - 1),
    ("bytes=1048570-1048590", 1048570, 21),
    ("bytes=2999999-99999999999", BIG - 1, 1),
    ("bytes=-5", BIG - 5, 5),
    (f"bytes=-{BIG + 7}", 0, BIG),
]


def test_blobs_and_ranges_are_the_same_out_of_every_place(anywhere: int, filled: StoreBuilder) -> None:
    blob = blob_of(filled, "tiny:4m")
    path = f"{PATH}/blobs/{blob.digest}"
    status, headers, body = get(anywhere, path)
    assert (status, body) == (200, WEIGHTS)
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["Accept-Ranges"] == "bytes"
    assert headers["ETag"] == f'"{blob.digest}"'
    assert headers["Docker-Content-Digest"] == str(blob.digest)
    assert headers["Location"] == path
    for asked, offset, length in RANGES:
        status, headers, body = get(anywhere, path, Range=asked)
        assert (status, body) == (206, WEIGHTS[offset : offset + length]), asked
        assert headers["Content-Range"] == f"bytes {offset}-{offset + length - 1}/{BIG}"
    status, headers, body = get(anywhere, path, "HEAD")
    assert (status, headers["Content-Length"], body) == (200, str(BIG), b"")
    for kind in ("template", "config"):
        small = blob_of(filled, "tiny:4m", kind)
        assert get(anywhere, f"{PATH}/blobs/{small.digest}")[2] == filled.blob_path(small.digest).read_bytes()
    # What the place has besides is not served.
    hidden = blob_of(filled, "secret:1")
    assert get(anywhere, f"{PATH}/blobs/{hidden.digest}")[0] == 404
    assert get(anywhere, "/v2/library/secret/manifests/1")[0] == 404


def test_ranges_that_can_not_be_given(filled: StoreBuilder) -> None:
    blob = blob_of(filled, "tiny:4m")
    path = f"{PATH}/blobs/{blob.digest}"
    with served(filled) as (server, _):
        for asked in (f"bytes={BIG}-", f"bytes={BIG}-{BIG + 1}", "bytes=-0"):
            status, headers, body = get(server.port, path, Range=asked)
            assert (status, headers["Content-Range"]) == (416, f"bytes */{BIG}"), asked
            assert error_code(body) == "RANGE_INVALID"
        # Forms that a server may ignore: all of it comes.
        for asked in ("bytes=0-1,5-6", "bytes=5-1", "bytes=-", "lines=0-1", "bytes=a-b", f"bytes=0-{'9' * 30}"):
            status, _, body = get(server.port, path, Range=asked)
            assert (status, len(body)) == (200, BIG), asked
        tag = f'"{blob.digest}"'
        assert get(server.port, path, Range="bytes=0-3", If_Range=tag)[0] == 206
        assert get(server.port, path, Range="bytes=0-3", If_Range='"other"')[0] == 200
        assert get(server.port, path, If_None_Match=f'"x", {tag}')[::2] == (304, b"")


def test_blobs_belong_to_repositories(filled: StoreBuilder) -> None:
    blob = blob_of(filled, "tiny:4m")
    with served(filled) as (server, _):
        for path, code in [
            (f"/v2/org/repo-gguf/blobs/{blob.digest}", "BLOB_UNKNOWN"),
            (f"/v2/library/none/blobs/{blob.digest}", "NAME_UNKNOWN"),
            (f"{PATH}/blobs/sha256:{'0' * 64}", "BLOB_UNKNOWN"),
            (f"{PATH}/blobs/{blob.digest.hex}", "BLOB_UNKNOWN"),
            (f"{PATH}/manifests/5m", "MANIFEST_UNKNOWN"),
            (f"{PATH}/manifests/{blob.digest}", "MANIFEST_UNKNOWN"),
            ("/v2/library/none/tags/list", "NAME_UNKNOWN"),
            ("/v2/_catalog", "NAME_UNKNOWN"),
            ("/favicon.ico", "NAME_UNKNOWN"),
        ]:
            status, _, body = get(server.port, path)
            assert (status, error_code(body)) == (404, code), path


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"])
def test_whatever_writes_is_refused(filled: StoreBuilder, method: str) -> None:
    before = sorted(filled.root.rglob("*"))
    with served(filled) as (server, _):
        for path in (f"{PATH}/blobs/uploads/", f"{PATH}/manifests/4m"):
            status, headers, body = get(server.port, path, method)
            assert (status, headers["Allow"]) == (405, "GET, HEAD")
            assert error_code(body) == "UNSUPPORTED"
    assert sorted(filled.root.rglob("*")) == before


def test_body_that_nobody_asked_for_is_no_next_request(filled: StoreBuilder) -> None:
    inner = b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(filled) as (server, _):
        for header in (b"Content-Length: %d" % len(inner), b"Transfer-Encoding: chunked"):
            for method in (b"GET", b"POST"):
                request = b"%s /v2/ HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n%s" % (method, header, inner)
                assert raw(server.port, request, half_close=True).count(b"HTTP/1.1 ") == 1


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def test_token_is_asked_of_everything(filled: StoreBuilder) -> None:
    with served(filled, token="s3cr:et") as (server, log):
        for path in ("/", "/v2/", f"{PATH}/manifests/4m", f"{PATH}/blobs/{blob_of(filled, 'tiny:4m').digest}"):
            status, headers, body = get(server.port, path)
            # A bearer challenge would send clients to a token service, which there is not.
            assert (status, headers["WWW-Authenticate"]) == (401, 'Basic realm="ollama-ferry"')
            assert error_code(body) == "UNAUTHORIZED"
            for wrong in ("Bearer s3cr:e", "Bearer", "Bearer s3cr:et2", "s3cr:et", basic("s3cr:et", ""), "Basic ?",
                          basic("a", "x"), "Basic " + "A" * 999, "Bearer \xe9"):  # fmt: skip
                assert get(server.port, path, Authorization=wrong)[0] == 401, wrong
            for right in ("Bearer s3cr:et", "bearer s3cr:et", basic("anybody", "s3cr:et"), basic("", "s3cr:et")):
                assert get(server.port, path, Authorization=right)[0] == 200, right
    assert not any("s3cr" in str(entry) for entry in log)


TRICKS = [
    "/../../../etc/passwd",
    "/v2/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/v2/library/tiny/blobs/../../../../etc/passwd",
    "/v2/library/tiny/blobs/..%2f..%2fmanifests",
    "/v2/library/tiny/manifests/..",
    "/v2/library/tiny/manifests/%00",
    "/v2//library/tiny/manifests/4m",
    "/v2/library/tiny/manifests/4m/",
    "/v2/library/tin\u212a/manifests/4m".encode().decode("latin-1"),
    "//v2/",
    "/v2/%6cibrary%2ftiny%2fmanifests%2f4m%252f",
    "/v2/" + "a/" * 3000 + "manifests/x",
]


def test_path_tricks_find_nothing(filled: StoreBuilder) -> None:
    with served(filled) as (server, log):
        for path in TRICKS:
            request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode("latin-1")
            answer = raw(server.port, request)
            assert re.match(rb"HTTP/1.1 (404|400) ", answer), (path, answer)
        assert all(entry.what.isascii() and entry.what.isprintable() for entry in log)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nContent-Length: 5\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\nY: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: \x00\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: localhost\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"\x00\x01\x02\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"GET /" + b"a" * 20000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 5000 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: rebound.example\r\n\r\n", 421),
        (b"GET / HTTP/1.1\r\nHost: <script>\r\n\r\n", 421),
        (b"GET http://evil.example/v2/ HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
        (b"GET http://evil.example/v2/ HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", 200),
        (b"\r\n\r\nGET /v2/ HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n", 200),
        (b"GET /v2/ HTTP/1.0\r\n\r\n", 200),
        (b"GET /v2/?a=b#c HTTP/1.1\r\nHost: [::1]:80\r\nConnection: x, Close\r\n\r\n", 200),
    ],
)
def test_requests_out_of_the_ordinary(filled: StoreBuilder, request_: bytes, status: int) -> None:
    with served(filled) as (server, _):
        assert raw(server.port, request_, half_close=status != 400).startswith(b"HTTP/1.1 %d " % status)
        # Whatever that was, the next one is answered.
        assert get(server.port, "/v2/")[0] == 200


def test_connection_is_kept_and_pipelining_answered_in_order(filled: StoreBuilder) -> None:
    blob = blob_of(filled, "tiny:4m", "template")
    one = b"GET %s/blobs/%s HTTP/1.1\r\nHost: localhost\r\n%s\r\n"
    with served(filled) as (server, _):
        path = (PATH.encode(), str(blob.digest).encode())
        answer = raw(
            server.port,
            one % (*path, b"Range: bytes=0-1\r\n") + one % (*path, b"") + one % (*path, b"Connection: close\r\n"),
        )
        bodies = re.findall(rb"\r\n\r\n(.*?)(?:HTTP/1.1|$)", answer, re.DOTALL)
        assert bodies == [b"{{", b"{{ .Prompt }}", b"{{ .Prompt }}"]


def test_slow_and_silent_clients_are_let_go(source: StoreBuilder) -> None:
    source.model("tiny:4m", [("model", bytes(40_000_000))])
    blob = blob_of(source, "tiny:4m")
    limits = Limits(idle=0.2, head=0.3, stall=0.2)
    with served(source, "tiny:4m", limits=limits) as (server, log):
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as silent:
            assert silent.recv(10) == b""
        # A head that dribbles is given up as a whole, however regularly its bytes come.
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
            slow.setblocking(False)
            answer = b""
            while not answer and time.monotonic() - started < 9:
                with contextlib.suppress(OSError):
                    slow.send(b"G")
                time.sleep(0.02)
                with contextlib.suppress(BlockingIOError):
                    answer = slow.recv(1000)
            assert answer.startswith(b"HTTP/1.1 408 ")
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as stalled:
            stalled.sendall(
                b"GET %s/blobs/%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % (PATH.encode(), str(blob.digest).encode())
            )
            last = until_logged(log, 2)
            assert (last.trouble, last.sent < blob.size) == ("the client took nothing for too long", True)
            assert len(read_all(stalled)) < blob.size
        assert time.monotonic() - started < 5


def test_idle_connections_make_room_for_others(filled: StoreBuilder) -> None:
    with served(filled, limits=Limits(connections=3)) as (server, _), contextlib.ExitStack() as stack:
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(8)]
        for _ in range(3):
            assert get(server.port, "/v2/")[0] == 200
        idle[0].settimeout(10)
        assert idle[0].recv(10) == b""


def test_busy_connections_are_not_pushed_out(source: StoreBuilder) -> None:
    source.model("tiny:4m", [("model", bytes(40_000_000))])
    path = f"{PATH}/blobs/{blob_of(source, 'tiny:4m').digest}"
    with (
        served(source, "tiny:4m", limits=Limits(connections=2)) as (server, _),
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as busy,
    ):
        busy.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        assert busy.recv(1)
        for _ in range(4):
            assert get(server.port, "/v2/")[0] == 200
        assert len(read_all(busy)) > 40_000_000


def test_many_clients_at_once_get_the_right_bytes(filled: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "models.tar.gz"
    ollama_ferry.export("tiny:4m", archive, store=filled.root)
    path = f"{PATH}/blobs/{blob_of(filled, 'tiny:4m').digest}"
    with ollama_ferry.serve(archive=archive, listen="127.0.0.1:0") as server, ThreadPoolExecutor(24) as pool:

        def ask(number: int) -> bool:
            offset = number * 77_777 % BIG
            end = min(BIG, offset + 900_000)
            return get(server.port, path, Range=f"bytes={offset}-{end - 1}")[2] == WEIGHTS[offset:end]

        assert all(pool.map(ask, range(96)))


class Faulty(Store):
    """A store one of whose blobs fails in the middle."""

    def __init__(self, root: Path, fault: Exception | None) -> None:
        super().__init__(root)
        self._fault = fault

    @contextlib.contextmanager
    def open(self, blob: Descriptor, offset: int = 0) -> Iterator[Readable]:  # type: ignore[override]
        parts = iter([b"x" * 100_000])
        fault = self._fault

        class Data:
            def read(self, size: int, /) -> bytes:
                chunk = next(parts, b"")
                if not chunk and fault:
                    raise fault
                return chunk

        yield Data()


@pytest.mark.parametrize(
    "fault", [None, OSError(5, "Input/output error"), ollama_ferry.FerryError("its frame 7 is damaged")]
)
def test_blob_that_fails_in_the_middle_is_cut_and_never_padded(filled: StoreBuilder, fault: Exception | None) -> None:
    blob = blob_of(filled, "tiny:4m")
    with served(filled, source=Faulty(filled.root, fault)) as (server, log):
        with pytest.raises(http.client.IncompleteRead) as cut:
            get(server.port, f"{PATH}/blobs/{blob.digest}")
        assert cut.value.partial == b"x" * 100_000
        told = until_logged(log)
        assert told.sent == 100_000 and told.trouble.startswith("cut: ")
        assert (str(fault) if fault else "ends at byte 100000") in told.trouble


def test_file_that_shrinks_while_it_is_sent_is_cut(source: StoreBuilder) -> None:
    source.model("tiny:4m", [("model", bytes(40_000_000))])
    blob = blob_of(source, "tiny:4m")
    with served(source, "tiny:4m") as (server, log):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(f"GET {PATH}/blobs/{blob.digest} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert client.recv(1)
            os.truncate(source.blob_path(blob.digest), 20_000_000)
            assert len(read_all(client)) < 21_000_000
        assert until_logged(log).trouble.startswith("cut: it ends at byte 20000000")
        # Now that this shows before a byte is sent, it is an error.
        status, _, body = get(server.port, f"{PATH}/blobs/{blob.digest}")
        assert (status, error_code(body)) == (500, "BLOB_INVALID")
        source.blob_path(blob.digest).unlink()
        assert get(server.port, f"{PATH}/blobs/{blob.digest}", "HEAD")[0] == 404


@pytest.mark.parametrize("how", ["replaced", "written to"])
def test_archive_that_another_has_taken_the_place_of_is_not_served(
    filled: StoreBuilder, tmp_path: Path, how: str
) -> None:
    archive, other = tmp_path / "x.tar", tmp_path / "other"
    ollama_ferry.export("tiny:4m", archive, store=filled.root)
    blob = blob_of(filled, "tiny:4m")
    with ollama_ferry.serve(archive=archive, listen="127.0.0.1:0") as server:
        assert get(server.port, f"{PATH}/blobs/{blob.digest}")[2] == WEIGHTS
        content = b"secret" * (archive.stat().st_size // 6)
        if how == "replaced":
            other.write_bytes(content)
            os.replace(other, archive)
        else:
            archive.write_bytes(content)
        status, _, body = get(server.port, f"{PATH}/blobs/{blob.digest}")
    assert status == 500 and b"secret" not in body


def test_damage_in_an_archive_cuts_the_answer(filled: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "models.tar.gz"
    ollama_ferry.export("tiny:4m", archive, store=filled.root)
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 1
    archive.write_bytes(data)
    blob = blob_of(filled, "tiny:4m")
    log: list[Served] = []
    with ollama_ferry.serve(archive=archive, listen="127.0.0.1:0", log=log.append) as server:
        with pytest.raises(http.client.IncompleteRead):
            get(server.port, f"{PATH}/blobs/{blob.digest}")
        assert "is damaged" in until_logged(log).trouble


def test_models_of_two_hosts_do_not_meet_in_one_path(source: StoreBuilder) -> None:
    source.model("hf.co/library/Tiny:4M")
    source.model("tiny:4m")
    done = ferry("serve", "--all", "--models", source.root)
    assert done.returncode == UsageError.exit_code
    assert "hf.co/library/Tiny/4M" in done.stderr and "registry.ollama.ai/library/tiny/4m" in done.stderr
    with served(source, "hf.co/library/Tiny:4M") as (server, _):
        assert get(server.port, f"{PATH}/manifests/4m")[0] == 200


def test_shelf_takes_names_that_somebody_else_chose(filled: StoreBuilder) -> None:
    store = Store(filled.root)
    name = ModelName.parse("hf.co/Org/Repo-GGUF:Q4_K_M")
    shelf = Shelf(store, [ServedModel(name, store.manifest(name), "ferry/x", "t")])
    with Server(shelf) as server:
        assert get(server.port, "/v2/ferry/x/manifests/t")[0] == 200
        assert get(server.port, "/v2/Org/Repo-GGUF/manifests/Q4_K_M")[0] == 404


def test_what_can_not_be_served_is_left_out_or_refused(filled: StoreBuilder, tmp_path: Path) -> None:
    filled.model("cloud:1", config={"remote_host": "https://ollama.com"})
    filled.model("broken:1", [("model", b"gone")])
    filled.blob_path(blob_of(filled, "broken:1").digest).unlink()
    filled.manifest_path("garbled:1").parent.mkdir()
    filled.manifest_path("garbled:1").write_bytes(b"{")
    with serve_process(tmp_path, "--all", "--models", filled.root) as serving:
        assert [model["name"] for model in serving.document["models"]] == [
            "hf.co/Org/Repo-GGUF:Q4_K_M", "secret:1", "tiny:4m",
        ]  # fmt: skip
        assert [one["name"] for one in serving.document["left_out"]] == ["broken:1", "cloud:1", "garbled:1"]
        assert "left out: cloud:1 is a cloud model" in serving.log
    for name, code in (("cloud:1", 3), ("broken:1", 4), ("garbled:1", 4), ("none:1", 3)):
        done = ferry("serve", "tiny:4m", name, "--models", filled.root)
        assert (done.returncode, name in done.stderr) == (code, True)


def test_archive_without_an_index_is_refused_with_what_to_do(filled: StoreBuilder, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "plain.tar.gz", "w:gz") as tar:
        tar.add(filled.root, ".")
    done = ferry("serve", tmp_path / "plain.tar.gz")
    assert done.returncode == 2
    assert "has no index" in done.stderr and f"ollama-ferry import {tmp_path / 'plain.tar.gz'}" in done.stderr
    # The same models in a plain tar are found.
    with tarfile.open(tmp_path / "plain.tar", "w") as tar:
        tar.add(filled.root, ".")
    with ollama_ferry.serve("*/*/*:*", archive=tmp_path / "plain.tar", listen="127.0.0.1:0") as server:
        assert len(server.shelf.models) == 3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "no model was named"),
        (["-"], 2, "a stream passes by once"),
        (["./no.tar.gz"], 3, "there is no file no.tar.gz"),
        (["a:1", "--all"], 2, "name none beside it"),
        (["./a.tar", "b:1"], 2, "--model MODEL serves a part"),
        (["./a.tar", "--all"], 2, "an archive was named"),
        (["a:1", "--model", "b:1"], 2, "--model is for an archive"),
        (["a:1", "--listen", "nonsense:x"], 2, "no address to listen on"),
        (["a:1", "--listen", "1.2.3.4:99999"], 2, "no address to listen on"),
        (["tiny:4m", "--listen", "192.0.2.7:0"], 2, "this machine has no such address"),
        (["tiny:4m", "--token", ""], 2, "the token is empty"),
        (["tiny:4m", "--token", "two words"], 2, "printable ASCII"),
    ],
)
def test_words_that_make_no_sense(filled: StoreBuilder, words: list[str], code: int, said: str) -> None:
    done = ferry("serve", *words, OLLAMA_MODELS=str(filled.root))
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr


def test_port_that_is_taken_is_told(filled: StoreBuilder) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = ferry("serve", "tiny:4m", "--models", filled.root, "--listen", address)
    assert done.returncode == 1
    assert f"can't listen on {address}: something else does already" in done.stderr


def test_command_says_where_and_logs_what(filled: StoreBuilder, tmp_path: Path) -> None:
    blob = blob_of(filled, "tiny:4m")
    with serve_process(tmp_path, "tiny:4m", "--models", filled.root) as serving:
        (model,) = serving.document["models"]
        host = f"127.0.0.1:{serving.port}"
        assert model["pull"] == f"ollama pull --insecure {host}/library/tiny:4m"
        assert model["rename"] == f"ollama cp {host}/library/tiny:4m tiny:4m"
        assert model["size"] == Store(filled.root).manifest(ModelName.parse("tiny:4m")).size
        assert serving.document["token_needed"] is False
        assert get(serving.port, f"{PATH}/blobs/{blob.digest}", Range="bytes=1-2000000")[0] == 206
        assert get(serving.port, "/evil%0d%0aline")[0] == 404
        assert serving.end(signal.SIGTERM) == 130
        log = serving.log
    assert re.search(
        rf"^\d\d:\d\d:\d\d 127\.0\.0\.1 206 model blob {blob.digest.short} of library/tiny, 1 to 2000000: "
        r"2\.0 MB in \d\.\d s$",
        log,
        re.MULTILINE,
    )
    assert "everybody who reaches" not in log and log.isascii()


def test_quiet_hides_the_log_and_the_token_comes_from_the_environment(filled: StoreBuilder, tmp_path: Path) -> None:
    words: list[str | Path] = ["hf.co/Org/Repo-GGUF:Q4_K_M", "-q", "--models", filled.root, "--listen", ":0"]
    with serve_process(tmp_path, *words, OLLAMA_FERRY_TOKEN="tok") as serving:
        assert serving.document["token_needed"] is True
        assert get(serving.port, "/v2/")[0] == 401
        assert get(serving.port, "/v2/", Authorization="Bearer tok")[0] == 200
        assert serving.end() == 130
        assert serving.log.splitlines() == ["error: interrupted: nothing is served any more"]
    with serve_process(tmp_path, *words[:1], *words[2:]) as serving:
        assert "note: everybody who reaches" in serving.log
        # Beyond the loopback any name may lead here.
        assert get(serving.port, "/v2/", Host="models.lab")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_running_transfers_at_once(source: StoreBuilder, tmp_path: Path, number: signal.Signals) -> None:
    source.model("tiny:4m", [("model", bytes(40_000_000))])
    path = f"{PATH}/blobs/{blob_of(source, 'tiny:4m').digest}"
    with serve_process(tmp_path, "tiny:4m", "--models", source.root) as serving:
        with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as stalled:
            stalled.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert stalled.recv(1)
            started = time.monotonic()
            assert serving.end(number) == 130
            assert time.monotonic() - started < 2
        assert "Traceback" not in serving.log and "(the server ends)" in serving.log
        assert serving.log.endswith("error: interrupted: nothing is served any more\n")


def test_ipv6_is_listened_on(filled: StoreBuilder, tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serve_process(tmp_path, "tiny:4m", "--models", filled.root, "--listen", "[::1]:0") as serving:
        assert serving.document["address"] == f"http://[::1]:{serving.port}"
        # Ollama's names have no room for such an address.
        assert serving.document["models"][0]["pull"].endswith(f" localhost:{serving.port}/library/tiny:4m")
        connection = http.client.HTTPConnection("::1", serving.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            assert (
                b"can&#x27;t hold an IPv6" in (body := connection.getresponse().read()) or b"can't hold an IPv6" in body
            )


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.168.1.5:80", Address("192.168.1.5", 80)),
        (":11435", Address("", 11435)),
        ("[::1]:0", Address("::1", 0)),
        ("models.lab", Address("models.lab", 11435)),
    ],
)
def test_forms_of_addresses(text: str, address: Address) -> None:
    assert Address.parse(text) == address


def test_page_has_the_lines_to_copy_and_nothing_that_runs(filled: StoreBuilder) -> None:
    with served(filled) as (server, _):
        status, headers, body = get(server.port, "/", Host="localhost:1234")
        text = body.decode()
        assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "ollama pull --insecure localhost:1234/Org/Repo-GGUF:Q4_K_M\n" in text
        assert "ollama cp localhost:1234/Org/Repo-GGUF:Q4_K_M hf.co/Org/Repo-GGUF:Q4_K_M<" in text
        assert "3.0 MB, ID " in text
        assert "secret" not in text
        assert not re.search(r"<script|src=|href=|url\(|http", text)
        # The style is the one that the policy's hash allows.
        import hashlib

        style = text.partition("<style>")[2].partition("</style>")[0].encode()
        assert base64.b64encode(hashlib.sha256(style).digest()).decode() in headers["Content-Security-Policy"]
    with served(filled, token="t") as (server, _):
        text = get(server.port, "/", Authorization="Bearer t", Host='"><script>')[2].decode()
        assert "<script" not in text and f"127.0.0.1:{server.port}/library/tiny:4m" in text


def test_page_escapes_whatever_it_shows(filled: StoreBuilder) -> None:
    name = ModelName.parse("tiny:4m")
    model = ServedModel(name, Store(filled.root).manifest(name), "<b>&", "<i>")
    text = page([model], "<host>", token_needed=False).decode()
    assert "<b>" not in text and "<i>" not in text and "<host>" not in text
    assert "&lt;b&gt;&amp;:&lt;i&gt;" in text


def test_server_that_is_closed_leaves_no_thread_and_no_descriptor(filled: StoreBuilder) -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    threads, before = threading.active_count(), descriptors()
    for _ in range(3):
        with served(filled) as (server, _), socket.create_connection(("127.0.0.1", server.port)) as idle:
            assert get(server.port, "/v2/")[0] == 200
            assert idle
    assert (threading.active_count(), descriptors()) == (threads, before)


def test_server_survives_a_want_of_descriptors(filled: StoreBuilder) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with served(filled) as (server, _), contextlib.ExitStack() as stack:
        highest = max(map(int, os.listdir("/proc/self/fd")))
        clients = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(10)]
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 12, hard))
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            clients[0].sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            clients[0].settimeout(10)
            read_all(clients[0])
        finally:
            stack.close()
        assert get(server.port, "/v2/")[0] == 200


def test_skopeo_logs_in_and_reads_the_same_manifest(filled: StoreBuilder) -> None:
    """It goes no further: skopeo copies no manifest of the Docker type that names Ollama's layers."""
    skopeo = require_tool("skopeo")

    def run(*words: str) -> subprocess.CompletedProcess[bytes]:
        name = f"docker://127.0.0.1:{server.port}/library/tiny"
        line = [skopeo, words[0], "--tls-verify=false", *words[1:], name if words[0] == "list-tags" else f"{name}:4m"]
        return subprocess.run(line, capture_output=True, timeout=60, check=False)

    with served(filled, token="tok") as (server, _):
        inspected = run("inspect", "--raw", "--creds", "me:tok")
        assert inspected.stdout == filled.manifest_path("tiny:4m").read_bytes(), inspected.stderr
        assert json.loads(run("list-tags", "--creds", "me:tok").stdout)["Tags"] == ["4m"]
        refused = run("inspect", "--raw", "--creds", "me:no")
        assert refused.returncode and b"unauthorized" in refused.stderr
