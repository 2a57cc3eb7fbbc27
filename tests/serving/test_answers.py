"""What a registry that only reads answers: manifests, blobs, ranges, refusals."""

from __future__ import annotations

import base64
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.errors import UsageError
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store
from ollama_ferry.serving.served_models import ServedModel, ServedModels
from ollama_ferry.serving.server import Server
from support.command_line import ferry
from support.served import get, raw
from support.served_here import BIG, PATH, WEIGHTS, blob_of, error_code, served
from support.stores import StoreBuilder


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


def listed(port: int, path: str) -> tuple[list[list[str]], dict[str, object]]:
    """Follow a list from part to part; return the parts, and the last document."""
    parts: list[list[str]] = []
    while True:
        status, headers, body = get(port, path)
        assert status == 200, body
        document = json.loads(body)
        parts.append(document.get("tags", document.get("repositories")))
        if "Link" not in headers:
            return parts, document
        found = re.fullmatch(r'<(/v2/[^>]+)>; rel="next"', headers["Link"])
        assert found
        path = found[1]


def test_lists_are_given_in_parts(source: StoreBuilder) -> None:
    names = [f"tiny:{tag}" for tag in ("b", "A", "c", "1.0")] + ["a/b:1", "Z/b:1"]
    for name in names:
        source.model(name, [("model", name.encode())])
    with served(source, *names) as (server, _):
        tags = ["1.0", "A", "b", "c"]
        for size in range(1, 6):
            parts, document = listed(server.port, f"{PATH}/tags/list?n={size}")
            assert parts == [tags[start : start + size] for start in range(0, 4, size)]
            assert document["name"] == "library/tiny"
        assert listed(server.port, f"{PATH}/tags/list?last=a")[0] == [["b", "c"]]
        assert listed(server.port, f"{PATH}/tags/list?n=0")[0] == [[]]
        assert listed(server.port, f"{PATH}/tags/list?n=9&last=zz")[0] == [[]]
        assert listed(server.port, "/v2/_catalog")[0] == [["a/b", "library/tiny", "Z/b"]]
        assert listed(server.port, "/v2/_catalog?n=2")[0] == [["a/b", "library/tiny"], ["Z/b"]]
        for number in ("-1", "x", "", "9" * 20, "1e3"):
            status, _, body = get(server.port, f"/v2/_catalog?n={number}")
            assert (status, error_code(body)) == (400, "PAGINATION_NUMBER_INVALID")
        assert get(server.port, "/v2/library/nobody/tags/list?n=1")[0] == 404


def test_nothing_refers_to_a_model(filled: StoreBuilder) -> None:
    digest = Store(filled.root).manifest(ModelName.parse("tiny:4m")).digest
    with served(filled) as (server, _):
        for reference in (str(digest), "sha256:" + "0" * 64, "sha512:" + "0" * 128):
            status, headers, body = get(server.port, f"{PATH}/referrers/{reference}?artifactType=a%2Fb")
            assert (status, json.loads(body)["manifests"], headers["OCI-Filters-Applied"]) == (200, [], "artifactType")
            assert headers["Content-Type"] == json.loads(body)["mediaType"] == "application/vnd.oci.image.index.v1+json"
        assert get(server.port, f"{PATH}/referrers/4m")[0] == 400
        assert get(server.port, f"/v2/library/nobody/referrers/{digest}")[0] == 404


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
            ("/v2/_catalogue", "NAME_UNKNOWN"),
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


def test_models_of_two_hosts_do_not_meet_in_one_path(source: StoreBuilder) -> None:
    source.model("hf.co/library/Tiny:4M")
    source.model("tiny:4m")
    done = ferry("serve", "--all", "--models", source.root)
    assert done.returncode == UsageError.exit_code
    assert "hf.co/library/Tiny/4M" in done.stderr and "registry.ollama.ai/library/tiny/4m" in done.stderr
    with served(source, "hf.co/library/Tiny:4M") as (server, _):
        assert get(server.port, f"{PATH}/manifests/4m")[0] == 200


def test_served_models_take_names_that_somebody_else_chose(filled: StoreBuilder) -> None:
    store = Store(filled.root)
    name = ModelName.parse("hf.co/Org/Repo-GGUF:Q4_K_M")
    served_models = ServedModels(store, [ServedModel(name, store.manifest(name), "ferry/x", "t")])
    with Server(served_models) as server:
        assert get(server.port, "/v2/ferry/x/manifests/t")[0] == 200
        assert get(server.port, "/v2/Org/Repo-GGUF/manifests/Q4_K_M")[0] == 404
