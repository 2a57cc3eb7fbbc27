"""The page for people, and the addresses on it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store
from ollama_ferry.serving.addresses import Address
from ollama_ferry.serving.page import page
from ollama_ferry.serving.served_models import ServedModel
from ollama_ferry.wording import human_size
from support.served import get
from support.served_here import served
from support.stores import StoreBuilder


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


def test_page_has_the_lines_to_copy_and_runs_nothing_else(filled: StoreBuilder) -> None:
    with served(filled) as (server, _):
        status, headers, body = get(server.port, "/", Host="localhost:1234")
        text = body.decode()
        assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert "<code>ollama pull --insecure localhost:1234/Org/Repo-GGUF:Q4_K_M</code><button" in text
        assert "ollama cp localhost:1234/Org/Repo-GGUF:Q4_K_M hf.co/Org/Repo-GGUF:Q4_K_M</code><button" in text
        assert "3.0 MB, ID " in text
        assert "secret" not in text
        assert not re.search(r"\bsrc=|href=|url\(|http:|https:|\bon[a-z]+=", text) and text.count("<script>") == 1
        # Style and script are those that the policy's hashes allow.
        for part in ("style", "script"):
            inside = text.partition(f"<{part}>")[2].partition(f"</{part}>")[0].encode()
            allowed = base64.b64encode(hashlib.sha256(inside).digest()).decode()
            assert f"{part}-src 'sha256-{allowed}'" in headers["Content-Security-Policy"]
    with served(filled, token="t") as (server, _):
        text = get(server.port, "/", Authorization="Bearer t", Host='"><script>')[2].decode()
        assert text.count("<script") == 1 and f"127.0.0.1:{server.port}/library/tiny:4m" in text


def test_page_escapes_whatever_it_shows(filled: StoreBuilder) -> None:
    name = ModelName.parse("tiny:4m")
    model = ServedModel(name, Store(filled.root).manifest(name), "<b>&", "<i>")
    text = page([model], "<host>", token_needed=False).decode()
    assert "<b>" not in text and "<i>" not in text and "<host>" not in text
    assert "&lt;b&gt;&amp;:&lt;i&gt;" in text


def test_page_says_what_it_is_how_much_there_is_and_finds_a_model(filled: StoreBuilder) -> None:
    manifest = Store(filled.root).manifest(ModelName.parse("tiny:4m"))
    names = ["b:10b", "b:9b", "a:1", *(f"m{number}:1" for number in range(5))]
    models = [ServedModel.of(ModelName.parse(name), manifest) for name in names]
    text = page(models, "lab:11435", token_needed=False).decode()
    assert "read-only, by ollama-ferry" in text
    # All of them are the same bytes.
    assert f"8 models, {human_size(manifest.size)}; what they share counts once." in text
    assert re.findall("<h2>([^<]*)", text)[:3] == ["a:1", "b:9b", "b:10b"]
    assert 'type="search"' in text and 'type="search"' not in page(models[:5], "lab", token_needed=False).decode()
    assert text.count(">Copy</button>") == text.count("<code>ollama ") == 16


# What a phone, a tablet and a desk show: the page is loaded, looked over by a script, and its lines are copied.
_LOOK = """
(async () => {
  const wide = [...document.querySelectorAll("*")].filter((one) => one.getBoundingClientRect().right > innerWidth + 1);
  const buttons = [...document.querySelectorAll("button")];
  let copied = "";
  // Without a person's click nothing is copied: what would be is looked at, in both ways.
  let old = false;
  document.execCommand = () => { copied = document.activeElement.value; return true; };
  Object.defineProperty(navigator, "clipboard", { value: { writeText: async (text) => { copied = text; } } });
  Object.defineProperty(window, "isSecureContext", { get: () => !old });
  const missed = buttons.filter((button) => {
    copied = "";
    old = !old;
    button.click();
    return copied !== button.previousElementSibling.textContent;
  });
  const box = buttons[0].getBoundingClientRect();
  const find = document.querySelector("input");
  find.value = "QWEN3:1";
  find.dispatchEvent(new Event("input"));
  const found = [...document.querySelectorAll("article")].filter((one) => !one.hidden).length;
  document.title = JSON.stringify({
    width: innerWidth, wide: wide.map((one) => one.outerHTML.slice(0, 80)), buttons: buttons.length,
    missed: missed.length, hidden: box.width < 40 || box.height < 20, found,
  });
})();
"""


@pytest.mark.long
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed, and need not be")
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_nothing_is_cut_and_every_line_is_copied(filled: StoreBuilder, tmp_path: Path, width: int) -> None:
    manifest = Store(filled.root).manifest(ModelName.parse("tiny:4m"))
    long = f"registry.example.com/{'n' * 60}/{'m' * 80}:{'t' * 60}"
    names = [f"qwen3:{number}" for number in range(199)] + [long]
    models = [ServedModel.of(ModelName.parse(name), manifest) for name in names]
    text = page(models, "inference-server-17.lab.example.com:11435", token_needed=False).decode()
    file = tmp_path / "page.html"
    # In a frame of the width: a window has a least one.
    file.write_text(text.replace("</body>", f"<script>{_LOOK}</script></body>"))
    frame = tmp_path / "frame.html"
    frame.write_text(
        f'<iframe src="page.html" width="{width}" height="800" allow="clipboard-write"></iframe><script>onload = () => '
        "setTimeout(() => { document.title = frames[0].document.title; }, 500);</script>"
    )
    words = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    shown = subprocess.run(
        [*words, f"--user-data-dir={tmp_path}/profile", "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    seen = json.loads(unescape(re.findall("<title>(.*?)</title>", shown.stdout)[0]))
    assert seen == {"width": width, "wide": [], "buttons": 400, "missed": 0, "hidden": False, "found": 110}


@pytest.mark.parametrize("tag", ["local", "LOCAL"])
def test_lines_name_no_tag_that_ollama_cuts_off(source: StoreBuilder, tag: str) -> None:
    source.model(f"mine:{tag}", [("model", b"the very one")])
    source.model("mine:latest", [("model", b"another one")])
    raw = source.manifest_path(f"mine:{tag}").read_bytes()
    with served(source, f"mine:{tag}", "mine:latest") as (server, _):
        text = get(server.port, "/")[2].decode()
        (named,) = re.findall(rf"ollama cp \S+/(library/mine):(\S+) mine:{tag}", text)
        assert f"ollama pull --insecure 127.0.0.1:{server.port}/{':'.join(named)}<" in text
        assert named[1].lower() not in ("local", "latest")
        for asked in (named[1], tag):
            assert get(server.port, f"/v2/{named[0]}/manifests/{asked}")[2] == raw
        assert json.loads(get(server.port, "/v2/library/mine/tags/list")[2])["tags"] == ["latest", tag]
