"""The page for people: what is served, and the lines to copy. No script, nothing from elsewhere, all text escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from html import escape

from ollama_ferry.serving.served_models import ServedModel
from ollama_ferry.wording import human_size

_STYLE = """
:root { color-scheme: light dark; }
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.4rem; }
h2 { font-size: 1.1rem; margin: 2rem 0 0; overflow-wrap: anywhere; }
p { margin: 0.3rem 0; }
pre { overflow-x: auto; padding: 0.7rem; border: 1px solid #8886; border-radius: 0.4rem; user-select: all; }
"""

PAGE_HEADERS = (
    ("Content-Type", "text/html; charset=utf-8"),
    (
        "Content-Security-Policy",
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
    ),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-store"),
)


def pull_line(model: ServedModel, host: str) -> str:
    """Return the command that pulls a model from ``host:port``; plain http is what --insecure is for."""
    return f"ollama pull --insecure {host}/{model.path}"


def rename_line(model: ServedModel, host: str) -> str:
    """Return the command that gives a model that was pulled from here its own name."""
    return f"ollama cp {host}/{model.path} {model.name}"


def page(models: Sequence[ServedModel], host: str, *, token_needed: bool) -> bytes:
    """Return the page as HTML.

    Args:
        models: what is served.
        host: where the reader has reached the server, ``host:port``.
        token_needed: ``ollama pull`` will be refused, for it can send no token.
    """
    lines = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>Ollama models at {escape(host)}</title>",
        f"<style>{_STYLE}</style></head><body>",
        f"<h1>Ollama models at {escape(host)}</h1>",
        f"<p>{len(models)} {'model' if len(models) == 1 else 'models'}, read-only.",
    ]
    if token_needed:
        lines.append(
            "A token is asked for, which <code>ollama pull</code> can't send: other clients of a registry can, as a "
            "bearer token or as the password of a login with any name.</p>"
        )
    else:
        lines.append("The first line fetches a model, the second gives it its own name.</p>")
    if host.startswith("["):
        lines.append("<p>Ollama's names can't hold an IPv6 address: put this machine's name in its place.</p>")
    for model in models:
        lines.append(f"<h2>{escape(str(model.name))}</h2>")
        lines.append(f"<p>{escape(human_size(model.manifest.size))}, ID {escape(model.manifest.digest.short)}</p>")
        commands = [f"{host}/{model.path}"] if token_needed else [pull_line(model, host), rename_line(model, host)]
        lines.append(f"<pre>{escape(chr(10).join(commands))}</pre>")
    lines.append("</body></html>\n")
    return "\n".join(lines).encode()
