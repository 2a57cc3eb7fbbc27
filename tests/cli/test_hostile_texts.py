"""Texts from outside that would steer a terminal: whatever a command prints, there or into a file, shows them."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import sys
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import BinaryIO

import pytest

from ollama_ferry.cli import run as cli_run
from ollama_ferry.cli.terminal import escaped
from support import needs
from support.http_double import answering
from support.oci_registries import Answered, FaultyHandler, FaultyRegistry, faulty_registry
from support.served import raw, serve_process
from support.stores import StoreBuilder

# A title, a colour, a bell, a tab, a return, DEL, CSI of C1, overrides of direction, a line separator, half a pair.
TRICKS = "\x1b]0;own\x07\x1b[31m\t\r\x7f\x9b2J\u202e\u2066\u2028\U000e0041\ud800\nFAKE: line"
# What can stand in the name of a file.
IN_A_PATH = TRICKS.replace("\ud800", "\udcff")

_STEERS = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202f\u2060-\u206f\ud800-\udfff\U000e0000-\U000e0fff]"
)
# What progress writes itself: where it stands, colours, the cursor, a title of what prints.
_BAR = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\r|\x1b\]2;[ -~]*\x07")


def assert_harmless(said: bytes, *, terminal: bool = False) -> None:
    """Check that nothing in an output steers a terminal, nor begins a line of its own."""
    if terminal:
        said = _BAR.sub(b"", said)
    text = said.decode("utf-8", "surrogatepass")
    found = _STEERS.search(text)
    assert found is None, (found, text)
    assert not re.search("^FAKE", text, re.MULTILINE), text


@contextlib.contextmanager
def outputs_to(out: BinaryIO, err: BinaryIO, environ: dict[str, str]) -> Iterator[None]:
    """Let what this process prints go elsewhere: a process of its own for each command would take minutes."""
    before, variables = (sys.stdout, sys.stderr), dict(os.environ)
    sys.stdout = io.TextIOWrapper(out, encoding="utf-8", write_through=True)
    sys.stderr = io.TextIOWrapper(err, encoding="utf-8", write_through=True)
    os.environ.update(environ)
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            stream.detach()
        sys.stdout, sys.stderr = before
        os.environ.clear()
        os.environ.update(variables)


def run(arguments: list[str], **environ: str) -> tuple[bytes, bytes]:
    """Run a command with both outputs in files."""
    out, err = io.BytesIO(), io.BytesIO()
    with outputs_to(out, err, environ):
        cli_run(arguments)
    assert b"internal error" not in err.getvalue(), err.getvalue()
    return out.getvalue(), err.getvalue()


def run_on_terminal(arguments: list[str], **environ: str) -> bytes:
    """Run a command on a terminal of its own; return all that it wrote there."""
    master, slave = os.openpty()
    parts: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):
            while chunk := os.read(master, 65536):
                parts.append(chunk)

    reader = threading.Thread(target=read)
    reader.start()
    variables = {"TERM": "xterm-256color", "COLUMNS": "200", **environ}
    with (
        open(slave, "wb", buffering=0, closefd=False) as out,
        open(slave, "wb", buffering=0, closefd=False) as err,
        outputs_to(out, err, variables),
    ):
        cli_run(arguments)
    os.close(slave)
    reader.join(20)
    os.close(master)
    return b"".join(parts)


def sweep(arguments: list[str], **environ: str) -> bytes:
    """Run a command in each way of showing things; return what it said when piped."""
    together = b""
    for more in ([], ["--json"]):
        for said in run([*arguments, *more], **environ):
            assert_harmless(said)
            together += said
    for more in (["-v"], ["--json"]):
        assert_harmless(run_on_terminal([*arguments, *more], **environ), terminal=True)
    return together


@pytest.fixture
def store(tmp_path: Path) -> StoreBuilder:
    """A store in a folder of an evil name, whose models have evil texts wherever a text may stand."""
    builder = StoreBuilder(tmp_path / f"store {IN_A_PATH}")
    for name, number in (("one:1", 1), ("two:1", 2)):
        content = b"weights" * number
        entry = {"digest": str(builder.blob(content)), "size": len(content)}
        config = json.dumps({"model_format": TRICKS, "model_family": TRICKS}).encode()
        layers = [
            {**entry, "mediaType": f"application/{TRICKS}", "name": TRICKS, "from": TRICKS},
            {"mediaType": TRICKS, "digest": str(builder.blob(b"x" * number)), "size": number, TRICKS: TRICKS},
        ]
        document = {
            "schemaVersion": 2,
            "mediaType": TRICKS,
            "config": {"mediaType": TRICKS, "digest": str(builder.blob(config)), "size": len(config)},
            "layers": layers,
        }
        builder.manifest(name, json.dumps(document).encode())
    builder.model("cloud:1", config={"remote_host": f"https://{TRICKS}", "remote_model": TRICKS})
    # Damaged in each way: a manifest that is none, one whose blob has gone, one whose blob has other bytes.
    builder.manifest_path("none:1").parent.mkdir(parents=True)
    builder.manifest_path("none:1").write_text('{"layers": [{"digest": "' + "\\u001b]0;own\\u0007" + '"}]}')
    builder.model("gone:1", [(TRICKS, b"gone")])
    builder.model("bad:1", [(TRICKS, b"good")])
    for path in (builder.root / "blobs").iterdir():
        if path.read_bytes() == b"gone":
            path.unlink()
        elif path.read_bytes() == b"good":
            path.write_bytes(b"evil")
    # And files whose names are nothing of Ollama's.
    (builder.root / "blobs" / IN_A_PATH.replace("/", "")).write_bytes(b"")
    folder = builder.root / "manifests/registry.ollama.ai/library" / IN_A_PATH
    folder.mkdir(parents=True)
    (folder / IN_A_PATH).write_bytes(b"{}")
    return builder


@needs.any_names
def test_everything_that_reads_a_store(store: StoreBuilder, tmp_path: Path) -> None:
    there = ["--models", str(store.root)]
    for words in (
        ["list"],
        ["show", "one:1"],
        ["show", "cloud:1"],
        ["show", "none:1"],
        ["show", "bad:1"],
        ["verify"],
        ["verify", "one:1"],
        ["inventory"],
        ["doctor"],
        ["export", "one:1", "--dry-run"],
        ["export", "cloud:1", str(tmp_path / "cloud.tar")],
        ["export", "gone:1", str(tmp_path / "gone.tar")],
        ["export", TRICKS.replace("\ud800", ""), str(tmp_path / "x.tar")],
        ["push", "one:1", "127.0.0.1:9/m", "--insecure", "--dry-run"],
    ):
        sweep([*words, *there])
    assert b"MEDIA TYPE" in run(["show", "one:1", *there])[0]


@needs.any_names
def test_everything_that_writes(store: StoreBuilder, tmp_path: Path) -> None:
    there = ["--models", str(store.root)]
    target = str(tmp_path / f"target {IN_A_PATH}")
    archive = str(tmp_path / f"x {IN_A_PATH}.tar.gz")
    for words in (
        ["export", "one:1", "two:1", archive, "--force", *there],
        ["export", "one:1", archive, *there],
        ["send", "one:1", target, *there],
        ["send", "one:1", "--dry-run", target, *there],
        ["fetch", target, "one:1", "--models", f"{target} 2"],
        ["list", archive],
        ["show", "one:1", archive],
        ["verify", archive],
        ["verify", *there, "--repair", archive],
        ["import", archive, "--models", f"{target} 3"],
        ["import", archive, "--dry-run", "--models", f"{target} 4"],
        ["import", f"{archive}.not-there", "--models", target],
    ):
        sweep(words)


@needs.any_names
def test_archive_of_evil_names(tmp_path: Path) -> None:
    for number, name in enumerate(
        (IN_A_PATH, f"blobs/{IN_A_PATH}", f"manifests/a/b/c/{IN_A_PATH}", "blobs/sha256-" + "a" * 64)
    ):
        archive = tmp_path / f"{number}.tar"
        with tarfile.open(archive, "w", format=tarfile.PAX_FORMAT) as file:
            member = tarfile.TarInfo(name)
            member.uname = member.gname = TRICKS.replace("\ud800", "")
            member.pax_headers = {"comment": TRICKS.replace("\ud800", "")}
            file.addfile(member)
        for words in (["list"], ["show", "m"], ["verify"], ["import", "--models", str(tmp_path / "into")]):
            sweep(
                [
                    words[0],
                    *([words[1]] if words[0] == "show" else []),
                    str(archive),
                    *words[1 if words[0] != "show" else 2 :],
                ]
            )


@pytest.fixture
def registry() -> Iterator[FaultyRegistry]:
    with faulty_registry() as server:
        server.add_model("models/m", "1", b"x" * 1000)
        yield server


@needs.any_names
def test_words_of_a_registry(
    registry: FaultyRegistry, store: StoreBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is said in the end matters here, and not the waits before.
    monkeypatch.setattr("ollama_ferry.registries.retries.sleep_until", lambda moment, *_: None)
    in_a_header = "\x1b]0;own\x07\x9b2J\t"
    answers = {
        "manifest": [
            lambda h: h.reply(400, body=json.dumps({"errors": [{"code": TRICKS, "message": TRICKS}]}).encode()),
            lambda h: h.reply(401, {"WWW-Authenticate": f'Bearer realm="http://{in_a_header}/"'}),
            lambda h: h.reply(307, {"Location": f"http://{in_a_header}/"}),
            lambda h: h.reply(200, {"Docker-Content-Digest": f"sha256:{in_a_header}"}, b"{}"),
            lambda h: h.reply(200, body=json.dumps({"layers": [{"digest": TRICKS}], "mediaType": TRICKS}).encode()),
            lambda h: h.wfile.write(b"HTTP/1.1 200 \x1b]0;own\x07\r\nContent-Length: \x1b]0;own\x07\r\n\r\n"),
            lambda h: h.wfile.write(b"\x1b]0;own\x07\r\n\r\n"),
        ],
        "blob": [lambda h: h.reply(206, {"Content-Range": f"bytes {in_a_header}"}, b"x")],
    }
    for kind, faults in answers.items():
        for fault in faults:

            def trouble(handler: FaultyHandler, fault: object = fault) -> None:
                handler._read_body()
                fault(handler)  # type: ignore[operator]
                handler.close_connection = True
                raise Answered

            registry.always = {kind: trouble}
            into = str(tmp_path / "into")
            for words in (
                ["pull", f"{registry.address}/models/m:1", "--insecure", "--models", into],
                ["push", "one:1", f"{registry.address}/x", "--insecure", "--models", str(store.root)],
            ):
                assert_harmless(b"".join(run(words)))
            assert_harmless(run_on_terminal(words), terminal=True)


@needs.any_names
def test_words_of_a_far_side(tmp_path: Path) -> None:
    ssh = tmp_path / "ssh"
    for number, answer in enumerate((f"error {TRICKS}", f"error closed {TRICKS}", f"{TRICKS}", f"store {TRICKS}")):
        text = tmp_path / f"answer {number}"
        text.write_bytes(answer.encode("utf-8", "surrogatepass") + b"\nend\n")
        ssh.write_text(f"#!/bin/sh\ncat '{text}'\ncat '{text}' >&2\n[ {number} -ne 2 ]\n")
        ssh.chmod(0o755)
        for words in (["list", "host.example:/x"], ["verify", "host.example:"], ["fetch", "host.example:", "m"]):
            sweep([*words, "--ssh", str(ssh)])


@contextlib.contextmanager
def server_saying(body: bytes, status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_DELETE = do_POST  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    with answering(Handler) as address:
        yield address


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize(
    "document",
    [
        {"error": TRICKS},
        {"models": [{"name": TRICKS, "digest": "a" * 64}], "modelfile": f"FROM /{TRICKS}/blobs/sha256-{'a' * 64}\n"},
        {"models": [{"name": "m:1", "model": "m:1"}], "modelfile": f"FROM /{IN_A_PATH}/blobs/sha256-{'a' * 64}\n"},
    ],
)
@needs.any_names
def test_words_of_a_server(store: StoreBuilder, tmp_path: Path, document: dict[str, object], status: int) -> None:
    archive = tmp_path / "x.tar"
    run(["export", "one:1", str(archive), "--models", str(store.root)])
    with server_saying(json.dumps(document).encode(), status) as address:
        for words in (["list"], ["doctor"], ["import", str(archive), "--via-server"]):
            sweep(words, OLLAMA_HOST=address)


@needs.any_names
def test_log_of_a_server(store: StoreBuilder, tmp_path: Path) -> None:
    with serve_process(tmp_path, "--models", store.root, "one:1", "two:1") as serving:
        port = serving.port
        for target in (b"/\x1b]0;own\x07", b"/v2/library/one/manifests/%1b%5d0;own%07", b"/v2/\xc2\x9b/manifests/1"):
            raw(port, b"GET " + target + b" HTTP/1.1\r\nHost: \x1b]0;own\x07\r\nConnection: close\r\n\r\n")
            raw(port, b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        blob = json.loads(store.manifest_path("one:1").read_bytes())["layers"][1]["digest"]
        raw(port, f"GET /v2/library/one/blobs/{blob} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert serving.said("blob")
        assert serving.end(signal.SIGINT) == 0
        assert_harmless(serving.log.encode("utf-8", "surrogateescape"))


@needs.any_names
def test_what_prints_stays_as_it_is() -> None:
    text = "模型 é 😀 {}[]\\ '\""
    assert escaped(text) == text
    assert escaped("a\x1b\n\u202e\ud800b\U000e0041") == r"a\x1b\n\u202e\ud800b\U000e0041"
