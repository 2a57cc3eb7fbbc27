"""What is answered to which request. Nothing here touches a socket or opens a file.

Source: the OCI distribution specification 1.1 ("Pull", "Content Discovery"), ``_catalog`` of the distribution project's
own, which tools that mirror a whole registry ask for, and what ``server/download.go`` of Ollama makes of an answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from ollama_ferry.errors import FerryError, MissingBlob
from ollama_ferry.model.manifests import Descriptor, Digest, parse_json
from ollama_ferry.serving.page import PAGE_HEADERS, page
from ollama_ferry.serving.requests import BadRequest, Request, parse_range, split_host
from ollama_ferry.serving.served_models import ServedModel, ServedModels
from ollama_ferry.serving.tokens import is_authorized

DEFAULT_MEDIA_TYPE = "application/vnd.docker.distribution.manifest.v2+json"

# A type that a browser would show as a page must not come out of a manifest.
_MEDIA_TYPE = re.compile(r"application/vnd\.[a-z0-9.+-]{1,100}\+json")
_ROUTE = re.compile(r"/v2/([!-~]{1,500})/(?:(manifests|blobs|referrers)/([^/]{1,200})|tags/list)")
_INDEX_TYPE = "application/vnd.oci.image.index.v1+json"

# A login, and no "Bearer realm=": that would send clients to a service that hands out tokens, and there is none.
_CHALLENGE = ("WWW-Authenticate", 'Basic realm="ollama-ferry"')

_LOOPBACK = re.compile(r"localhost|127(\.\d{1,3}){3}|\[::1\]", re.IGNORECASE)


@dataclass(frozen=True)
class ServedAnswer:
    """An answer, but for the headers that every answer has.

    Attributes:
        status: the status code.
        what: what was asked for, for people: no text of the client's is in it that is not escaped.
        headers: further headers.
        body: the body; empty where a blob is sent.
        blob: the blob that is sent, from ``offset`` on, ``length`` bytes; None where the body is.
        length: of body or blob, in bytes.
    """

    status: int
    what: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    blob: Descriptor | None = None
    offset: int = 0
    length: int = 0


class Registry:
    """Answers requests for the models that are served.

    Args:
        served_models: what is served.
        token: what a request must carry; empty where all may read.
        only_loopback: nobody but this machine can reach the server. Then a page in a browser must not either, under a
            name of its own that it lets point here (DNS rebinding): the Host header has to name the loopback.
    """

    def __init__(self, served_models: ServedModels, *, token: str = "", only_loopback: bool = False) -> None:
        self._served_models = served_models
        self._token = token
        self._only_loopback = only_loopback

    def answer(self, request: Request, address: str) -> ServedAnswer:
        """Answer one request; HEAD is answered as GET is, and whoever sends it leaves the body out.

        Args:
            request: the request.
            address: where this server was reached, ``host:port``, for when the Host header does not tell.
        """
        shown = f"{request.method[:20]} {repr(request.target[:200])[1:-1]}"
        try:
            host = request.headers.get("host", "")
            if self._only_loopback and not self._token and host:
                named = split_host(host)
                if named is None or not _LOOPBACK.fullmatch(named[0]):
                    return failure(421, shown, "DENIED", "this server is for 127.0.0.1 and localhost alone")
            if not is_authorized(request.headers.get("authorization", ""), self._token):
                return failure(401, shown, "UNAUTHORIZED", "a token is asked for", _CHALLENGE)
            if request.method not in ("GET", "HEAD"):
                return failure(405, shown, "UNSUPPORTED", "this registry is read-only", ("Allow", "GET, HEAD"))
            return self._route(request, shown, host if host and split_host(host) else address)
        except BadRequest as error:
            return failure(error.status, shown, "RANGE_INVALID", error.why)

    def _route(self, request: Request, shown: str, host: str) -> ServedAnswer:
        if request.path == "/":
            body = page(self._served_models.models, host, token_needed=bool(self._token))
            return ServedAnswer(200, "the page", PAGE_HEADERS, body, length=len(body))
        if request.path in ("/v2", "/v2/"):
            return _json(200, "the version of the API", {})
        if request.path == "/v2/_catalog":
            return _listed(request, "the repositories", "repositories", self._served_models.repositories(), {})
        found = _ROUTE.fullmatch(request.path)
        if not found:
            return failure(404, shown, "NAME_UNKNOWN", "there is nothing here")
        repository, kind, reference = found[1], found[2], found[3]
        tags = self._served_models.tags(repository)
        if tags is None:
            return failure(404, shown, "NAME_UNKNOWN", "no model of this name is served")
        if kind is None:
            return _listed(request, f"the tags of {repository}", "tags", tags, {"name": repository})
        if kind == "referrers":
            return _no_referrers(request, repository, reference, shown)
        if kind == "manifests":
            model = self._served_models.model(repository, reference)
            if model is None:
                return failure(404, shown, "MANIFEST_UNKNOWN", "no model of this tag or digest is served")
            return _of_manifest(request, model)
        blob = self._served_models.blob(repository, reference)
        if blob is None:
            return failure(404, shown, "BLOB_UNKNOWN", "no model that is served here has this blob")
        return self._of_blob(request, repository, blob, shown)

    def _of_blob(self, request: Request, repository: str, blob: Descriptor, shown: str) -> ServedAnswer:
        try:
            self._served_models.require(blob)
        except MissingBlob as error:
            return failure(404, f"{shown} ({error})", "BLOB_UNKNOWN", "the blob has gone")
        except FerryError as error:
            return failure(500, f"{shown} ({error})", "BLOB_INVALID", "the blob can't be read")
        what = f"{blob.kind} blob {blob.digest.short} of {repository}"
        headers: tuple[tuple[str, str], ...] = (
            ("Content-Type", "application/octet-stream"),
            ("Accept-Ranges", "bytes"),
            *_digest_headers(blob.digest),
            # Ollama asks once where a blob really is, and fails where it is not told; the path is enough.
            ("Location", f"/v2/{repository}/blobs/{blob.digest}"),
        )
        if _is_known(request, blob.digest):
            return ServedAnswer(304, what, headers)
        wanted = _range_of(request, blob)
        if isinstance(wanted, ServedAnswer):
            return wanted
        if wanted is None:
            return ServedAnswer(200, what, headers, blob=blob, length=blob.size)
        offset, length = wanted
        last = offset + length - 1
        headers = (*headers, ("Content-Range", f"bytes {offset}-{last}/{blob.size}"))
        return ServedAnswer(206, f"{what}, {offset} to {last}", headers, blob=blob, offset=offset, length=length)


def failure(status: int, what: str, code: str, message: str, *headers: tuple[str, str]) -> ServedAnswer:
    """Return an error in the form that the OCI distribution specification gives it."""
    return _json(status, what, {"errors": [{"code": code, "message": message}]}, *headers)


def _json(status: int, what: str, value: object, *headers: tuple[str, str]) -> ServedAnswer:
    body = json.dumps(value).encode() + b"\n"
    return ServedAnswer(status, what, (("Content-Type", "application/json"), *headers), body, length=len(body))


def _listed(request: Request, what: str, key: str, names: Sequence[str], fields: dict[str, object]) -> ServedAnswer:
    """Answer with a sorted list, or with the part of it that ``n`` and ``last`` ask for, and where the next part is."""
    asked, last = request.query.get("n"), request.query.get("last", "")
    if asked is not None and not re.fullmatch(r"[0-9]{1,19}", asked):
        return failure(400, what, "PAGINATION_NUMBER_INVALID", "n is no number")
    left = [name for name in names if name.lower() > last.lower()]
    count = len(left) if asked is None else int(asked)
    headers: list[tuple[str, str]] = []
    if 0 < count < len(left):
        query = urlencode({"n": count, "last": left[count - 1]})
        headers.append(("Link", f'<{quote(request.path)}?{query}>; rel="next"'))
    return _json(200, what, {**fields, key: left[:count]}, *headers)


def _no_referrers(request: Request, repository: str, reference: str, shown: str) -> ServedAnswer:
    """Say that nothing refers to a manifest, which is true of all models, and asked by who copies what does."""
    if not re.fullmatch(r"[a-z0-9]+(?:[+._-][a-z0-9]+)*:[0-9A-Za-z=_-]{32,128}", reference):
        return failure(400, shown, "DIGEST_INVALID", "there is no such digest")
    index = {"schemaVersion": 2, "mediaType": _INDEX_TYPE, "manifests": []}
    body = json.dumps(index).encode()
    # Of nothing, nothing is left by any filter.
    applied = [("OCI-Filters-Applied", "artifactType")] if "artifactType" in request.query else []
    headers = (("Content-Type", _INDEX_TYPE), *applied)
    return ServedAnswer(200, f"what refers to a model of {repository}", headers, body, length=len(body))


def _of_manifest(request: Request, model: ServedModel) -> ServedAnswer:
    raw = model.document.raw
    headers = (("Content-Type", _media_type(raw)), *_digest_headers(model.document.digest))
    what = f"manifest of {model.path}"
    if _is_known(request, model.document.digest):
        return ServedAnswer(304, what, headers)
    return ServedAnswer(200, what, headers, raw, length=len(raw))


def _media_type(raw: bytes) -> str:
    document = parse_json(raw)
    named = document.get("mediatype") if isinstance(document, dict) else None
    return named if isinstance(named, str) and _MEDIA_TYPE.fullmatch(named) else DEFAULT_MEDIA_TYPE


def _digest_headers(digest: Digest) -> tuple[tuple[str, str], ...]:
    return (("Docker-Content-Digest", str(digest)), ("ETag", f'"{digest}"'))


def _is_known(request: Request, digest: Digest) -> bool:
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or f'"{digest}"' in known


def _range_of(request: Request, blob: Descriptor) -> tuple[int, int] | ServedAnswer | None:
    """Return offset and length of the one range that was asked for; None for all of the blob."""
    asked = request.headers.get("range")
    # RFC 9110: a range counts for GET only, and not where If-Range names another content.
    tag = f'"{blob.digest}"'
    if asked is None or request.method != "GET" or request.headers.get("if-range", tag) != tag:
        return None
    try:
        return parse_range(asked, blob.size)
    except BadRequest as error:
        what = f"{blob.kind} blob {blob.digest.short}, {repr(asked[:60])[1:-1]}"
        return failure(error.status, what, "RANGE_INVALID", error.why, ("Content-Range", f"bytes */{blob.size}"))
