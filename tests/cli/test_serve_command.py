"""``serve`` as a command: what it takes and refuses, what it prints, and how it ends."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

import ollama_ferry
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store
from support.command_line import ferry
from support.served import get, serve_process
from support.served_here import PATH, blob_of, fill, served
from support.stores import StoreBuilder
from support.tools import require_tool


@pytest.fixture
def filled(source: StoreBuilder) -> StoreBuilder:
    return fill(source)


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


def test_a_model_that_has_no_form_of_oci_is_left_out_or_refused(filled: StoreBuilder) -> None:
    model = json.loads(filled.manifest_path("tiny:4m").read_bytes())
    del model["config"]
    filled.manifest("bare:1", json.dumps(model).encode())
    with ollama_ferry.serve(store=filled.root, listen="127.0.0.1:0", oci=True) as server:
        assert "bare:1" in [one.name for one in server.left_out] and len(server.models) == 3
    done = ferry("serve", "bare:1", "--oci", "--models", filled.root)
    assert (done.returncode, "has no config" in done.stderr) == (2, True)


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
        assert len(server.served_models.models) == 3


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ([], 2, "no model was named"),
        (["-"], 2, "a stream passes by once"),
        (["./no.tar.gz"], 3, "there is no file no.tar.gz"),
        (["a:1", "--all"], 2, "name none beside it"),
        (["a.tar", "b.tar"], 2, "two places"),
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
        assert serving.end(signal.SIGTERM) == 0
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
        assert (serving.end(), serving.log) == (0, "")
    with serve_process(tmp_path, *words[:1], *words[2:]) as serving:
        assert "note: everybody who reaches" in serving.log
        # Beyond the loopback any name may lead here.
        assert get(serving.port, "/v2/", Host="models.lab")[0] == 200


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_ends_running_transfers_at_once(source: StoreBuilder, tmp_path: Path, number: signal.Signals) -> None:
    source.model("tiny:4m", [("model", bytes(40_000_000))])
    path = f"{PATH}/blobs/{blob_of(source, 'tiny:4m').digest}"
    with serve_process(tmp_path, "tiny:4m", "--models", source.root) as serving:
        with socket.create_connection(("127.0.0.1", serving.port), timeout=120) as stalled:
            stalled.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            assert stalled.recv(1)
            started = time.monotonic()
            assert serving.end(number) == 0
            assert time.monotonic() - started < 28
        assert "Traceback" not in serving.log and "(the server ends)" in serving.log
        assert "ended: nothing is served any more" in serving.log.splitlines()[-1]


def test_ipv6_is_listened_on(filled: StoreBuilder, tmp_path: Path) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serve_process(tmp_path, "tiny:4m", "--models", filled.root, "--listen", "[::1]:0") as serving:
        assert serving.document["address"] == f"http://[::1]:{serving.port}"
        # Ollama's names have no room for such an address.
        assert serving.document["models"][0]["pull"].endswith(f" localhost:{serving.port}/library/tiny:4m")
        connection = http.client.HTTPConnection("::1", serving.port, timeout=120)
        with contextlib.closing(connection):
            connection.request("GET", "/")
            assert (
                b"can&#x27;t hold an IPv6" in (body := connection.getresponse().read()) or b"can't hold an IPv6" in body
            )


def test_skopeo_logs_in_and_reads_the_same_manifest(filled: StoreBuilder) -> None:
    """It goes no further without --oci: skopeo copies no manifest of Docker's type that names Ollama's layers."""
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
