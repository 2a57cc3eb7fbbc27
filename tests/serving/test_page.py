"""The page for people, and the addresses on it."""

from __future__ import annotations

import base64
import re

import pytest

from ollama_ferry.model.names import ModelName
from ollama_ferry.places.store.store import Store
from ollama_ferry.serving.addresses import Address
from ollama_ferry.serving.page import page
from ollama_ferry.serving.served_models import ServedModel
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
