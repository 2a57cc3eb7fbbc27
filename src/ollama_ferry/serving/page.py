"""The page for people: what is served, and the lines to copy. Nothing comes from elsewhere, all text is escaped.

The one script copies a line and finds a model; its hash is in the policy, and no other runs. Without it all is there.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from ollama_ferry.serving.served_models import ServedModel
from ollama_ferry.wording import counted, human_size, reading_order

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --accent: #0a6cbd; }
@media (prefers-color-scheme: dark) { :root { --accent: #6cb8f5; } }
* { box-sizing: border-box; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 54rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; line-height: 1.25; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.05rem; margin: 0; overflow-wrap: anywhere; }
p { margin: 0.3rem 0; overflow-wrap: anywhere; }
ol { padding-left: 1.4rem; margin: 0.3rem 0; }
input { font: inherit; width: 100%; padding: 0.5rem 0.7rem; margin: 0.8rem 0; border: 1px solid var(--line);
  border-radius: 0.4rem; background: transparent; color: inherit; }
article { border-top: 1px solid var(--line); padding: 0.9rem 0; }
article p { font-size: 0.9rem; opacity: 0.8; }
.line { display: flex; gap: 0.5rem; align-items: stretch; margin-top: 0.4rem; }
code { font: 0.9rem/1.4 ui-monospace, monospace; }
.line code { flex: 1; min-width: 0; overflow-wrap: anywhere; padding: 0.5rem 0.6rem; border-radius: 0.4rem;
  background: var(--soft); user-select: all; }
button { font: inherit; font-size: 0.9rem; min-width: 4.8rem; border: 1px solid var(--accent); border-radius: 0.4rem;
  background: transparent; color: var(--accent); cursor: pointer; }
button:focus-visible, input:focus-visible { outline: 2px solid var(--accent); outline-offset: 1px; }
[hidden] { display: none; }
"""

# A page that came by plain http may not use navigator.clipboard: the older way copies there.
_SCRIPT = """
"use strict";
function copy(text) {
  if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  document.body.appendChild(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  return done ? Promise.resolve() : Promise.reject();
}
for (const button of document.querySelectorAll("button")) {
  button.hidden = false;
  button.addEventListener("click", () => {
    const code = button.previousElementSibling;
    copy(code.textContent).then(() => "Copied", () => {
      getSelection().selectAllChildren(code);
      return "Selected";
    }).then((word) => {
      button.textContent = word;
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
  });
}
const find = document.querySelector("input");
if (find) {
  find.hidden = false;
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    for (const model of document.querySelectorAll("article"))
      model.hidden = !model.querySelector("h2").textContent.toLowerCase().includes(wanted);
  });
}
"""

# Fewer are seen at a glance.
_SEARCH_FROM = 6


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


PAGE_HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    (
        "Content-Security-Policy",
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)


def pull_line(model: ServedModel, host: str) -> str:
    """Return the command that pulls a model from ``host:port``; plain http is what --insecure is for."""
    return f"ollama pull --insecure {host}/{model.path_for_ollama}"


def rename_line(model: ServedModel, host: str) -> str:
    """Return the command that gives a model that was pulled from here its own name."""
    return f"ollama cp {host}/{model.path_for_ollama} {model.name}"


def page(models: Sequence[ServedModel], host: str, *, token_needed: bool) -> bytes:
    """Return the page as HTML.

    Args:
        models: what is served.
        host: where the reader has reached the server, ``host:port``.
        token_needed: ``ollama pull`` will be refused, for it can send no token.
    """
    sizes = {blob.digest: blob.size for model in models for blob in model.manifest.blobs}
    total = f"{counted(len(models), 'model')}, {human_size(sum(sizes.values()))}; what they share counts once."
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Ollama models at {escape(host)}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>Ollama models at {escape(host)}</h1>",
        "<p>This machine lends its models for Ollama to others of its network, read-only, by ollama-ferry.</p>",
        f"<p>{total}</p>",
        *_how(host, token_needed=token_needed),
    ]
    if len(models) >= _SEARCH_FROM:
        lines.append('<input type="search" placeholder="Find a model" aria-label="Find a model" hidden>')
    for model in sorted(models, key=lambda model: reading_order(str(model.name))):
        lines += _model(model, host, token_needed=token_needed)
    lines.append(f"<script>{_SCRIPT}</script></body></html>\n")
    return "\n".join(lines).encode()


def _how(host: str, *, token_needed: bool) -> list[str]:
    if token_needed:
        lines = [
            "<p>A token is asked for, which <code>ollama pull</code> can't send: other clients of a registry can, as a "
            "bearer token or as the password of a login with any name.</p>"
        ]
    else:
        lines = [
            "<p>On the machine that is to have a model:</p>",
            "<ol><li>the first line fetches it;</li><li>the second gives it its own name.</li></ol>",
        ]
    if host.startswith("["):
        lines.append("<p>Ollama's names can't hold an IPv6 address: put this machine's name in its place.</p>")
    return lines


def _model(model: ServedModel, host: str, *, token_needed: bool) -> list[str]:
    commands = [f"{host}/{model.path}"] if token_needed else [pull_line(model, host), rename_line(model, host)]
    return [
        f"<article><h2>{escape(str(model.name))}</h2>",
        f"<p>{escape(human_size(model.manifest.size))}, ID {escape(model.manifest.digest.short)}</p>",
        *(
            f'<div class="line"><code>{escape(command)}</code><button type="button" hidden>Copy</button></div>'
            for command in commands
        ),
        "</article>",
    ]
