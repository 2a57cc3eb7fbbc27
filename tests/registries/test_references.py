"""What a registry calls a model, and what it asks for."""

from __future__ import annotations

import time

import pytest

from ollama_ferry.errors import Damaged, UsageError
from ollama_ferry.jobs.pull import references_of
from ollama_ferry.model.names import ModelName
from ollama_ferry.model.renames import Renames
from ollama_ferry.places.registry.references import PushTarget, parse_reference
from ollama_ferry.registries.access import Access
from ollama_ferry.registries.answers import retry_after
from ollama_ferry.registries.challenges import parse_challenge
from ollama_ferry.registries.client import Client
from ollama_ferry.registries.connections import origin_of

DIGEST = "sha256:" + "a" * 64

REFERENCES = {
    "deepseek-r1": ("registry.ollama.ai", "library/deepseek-r1", "latest"),
    "deepseek-r1:8b": ("registry.ollama.ai", "library/deepseek-r1", "8b"),
    "me/mine:V1": ("registry.ollama.ai", "me/mine", "V1"),
    "hf.co/Org/Repo-GGUF:Q4_K_M": ("hf.co", "Org/Repo-GGUF", "Q4_K_M"),
    "registry.lab:5000/models/deepseek-r1:8b": ("registry.lab:5000", "models/deepseek-r1", "8b"),
    "https://registry.lab/models/x": ("registry.lab", "models/x", "latest"),
    "registry.lab:5000/x": ("registry.lab:5000", "x", "latest"),
    "docker.io/model": ("docker.io", "library/model", "latest"),
    "registry-1.docker.io/team/model:1": ("registry-1.docker.io", "team/model", "1"),
    "registry.lab/a/b/c/d:1": ("registry.lab", "a/b/c/d", "1"),
    "[::1]:5000/a/b:1": ("[::1]:5000", "a/b", "1"),
    f"registry.lab/a/b:1@{DIGEST}": ("registry.lab", "a/b", "1"),
    f"registry.lab/a/b@{DIGEST}": ("registry.lab", "a/b", ""),
}


@pytest.mark.parametrize("text", REFERENCES)
def test_reference_is_read(text: str) -> None:
    found = parse_reference(text)
    assert (found.registry, found.repository, found.tag) == REFERENCES[text]
    assert (str(found.digest) if found.digest else "") == (DIGEST if "@" in text else "")
    assert parse_reference(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", "/", "a//b", "registry.lab/../x", "registry.lab/./x", "registry.lab/a/.b", "registry.lab/a b", "x:", "x:a/",
     "registry.lab:99999/a/b", "registry.lab:0/a/b", "user@registry.lab/a/b", "registry.lab/a@sha256:1", "ftp://a/b/c",
     "http://registry.lab/a/b", "a..b/c/d", "registry.lab/a?b=c/d", "registry.lab/a%2fb/c", "x" * 2000, "é/a/b",
     "registry.lab/a\n/b"],
)  # fmt: skip
def test_what_is_no_reference(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_reference(text)
    assert caught.value.message.isprintable()


def test_names_that_pulled_models_get() -> None:
    found = references_of(["qwen3:8b", "hf.co/Org/Repo:Q4_K_M", "registry.lab:5000/models/x:1"])
    assert [str(name) for name in found] == ["qwen3:8b", "hf.co/Org/Repo:Q4_K_M", "registry.lab:5000/models/x:1"]
    for text in ("registry.lab/a/b/c:1", "registry.lab:5000/x:1", f"registry.lab/a/b@{DIGEST}", "registry.lab/a.b/c"):
        with pytest.raises(UsageError) as caught:
            references_of([text])
        assert caught.value.remedies[0].parameter == "rename"
        assert list(references_of([text], Renames.parse(["x:1"]))) == [ModelName.parse("x:1")]
    with pytest.raises(UsageError, match="one new name"):
        references_of(["a", "b"], Renames.parse(["c"]))


PLACES = {
    "deepseek-r1:8b": "models/deepseek-r1:8b",
    "me/Mine:V1": "models/me/mine:V1",
    "hf.co/Org/Repo-GGUF:Q4_K_M": "models/org/repo-gguf:Q4_K_M",
    "registry.lab:5000/library/x:1": "models/x:1",
}


@pytest.mark.parametrize("name", PLACES)
def test_place_that_a_pushed_model_gets(name: str) -> None:
    place = PushTarget.parse("other.lab:5000/models").place(ModelName.parse(name))
    assert str(place) == f"other.lab:5000/{PLACES[name]}"
    assert list(references_of([str(place)], Renames.parse([name]))) == [ModelName.parse(name)]


def test_place_under_another_name() -> None:
    target = PushTarget.parse("registry.lab:5000/")
    assert str(target.place_as("a/b:V1")) == "registry.lab:5000/a/b:V1"
    assert str(target.place(ModelName.parse("x:1"))) == "registry.lab:5000/x:1"
    for text in ("A", "a//b", "a:", "a:b:c", "../x", "a__", "-"):
        if text == "a:":
            assert target.place_as(text).tag == "latest"
            continue
        with pytest.raises(UsageError):
            target.place_as(text)
    with pytest.raises(UsageError) as caught:
        target.place(ModelName.parse("odd_.name_:1"))
    assert caught.value.remedies[0].parameter == "rename"


@pytest.mark.parametrize("text", ["", "models", "registry.lab/Models", "registry.lab/a/../b", "http://registry.lab/x"])
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(UsageError):
        PushTarget.parse(text)


# -- what a registry asks for


def test_challenges_are_read() -> None:
    found = parse_challenge(['Bearer realm="https://a/t?x=1,2",service="s", scope="repository:a:pull,push"'])
    assert found and (found.scheme, found.realm, found.service) == ("bearer", "https://a/t?x=1,2", "s")
    assert found.scope == "repository:a:pull,push"
    found = parse_challenge(['Basic realm="x"', "Bearer realm=https://b/t"])
    assert found and (found.scheme, found.realm) == ("bearer", "https://b/t")
    found = parse_challenge(['bAsIc realm="x"'])
    assert found and found.scheme == "basic"
    for text in ("", "Negotiate", "Digest realm=x", "Basically realm=x"):
        assert parse_challenge([text]) is None
    started = time.process_time()
    parse_challenge(["Bearer " + "a=" * 100_000, 'Bearer a="' * 10_000])
    assert time.process_time() - started < 5


def test_waits_are_read() -> None:
    assert retry_after("7") == 7
    assert retry_after("") == retry_after("soon") == retry_after("-3") == retry_after("9" * 30) == 0
    assert retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0
    assert retry_after("Wed, 21 Oct 2099 07:28:00 GMT") > 1e9


@pytest.mark.parametrize("url", ["http://a.lab/x", "https://u@a.lab/x", "https:///x", "//a.lab/x", "https://a.lab:0/x"])
def test_url_that_is_not_followed_from_https(url: str) -> None:
    with pytest.raises(Damaged):
        origin_of(url, plain=False)


def test_docker_hub_is_asked_where_it_answers() -> None:
    for name in ("docker.io", "index.docker.io", "registry-1.docker.io"):
        with Client(name, Access()) as client:
            assert client.base == "https://registry-1.docker.io"
    with Client("docker.io:5000", Access()) as client:
        assert client.base == "https://docker.io:5000"


def test_origins_are_compared_in_full() -> None:
    assert origin_of("https://A.lab/x", plain=False) == origin_of("https://a.lab:443/y", plain=False)
    others = ["https://a.lab:444/", "https://b.a.lab/", "http://a.lab:443/", "https://a.lab./", "https://[::1]/"]
    assert len({origin_of(url, plain=True) for url in others}) == len(others)
    assert origin_of("https://a.lab/", plain=True) not in [origin_of(url, plain=True) for url in others]
