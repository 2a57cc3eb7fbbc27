"""What the calls of the Python interface share: the store, the observer, streams, and what can't be meant."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_ferry import api
from ollama_ferry.engine.events import Event, Explained, Noted, StoreChosen
from ollama_ferry.errors import FerryError, UsageError
from support.stores import StoreBuilder, weights


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    source.model("a:1", [("model", weights(20_000))])
    source.model("b:1", [("model", weights(20_000)), ("template", b"{{ .Prompt }}")])
    return source


def test_the_observer_is_told_which_store_it_is(models: StoreBuilder, tmp_path: Path) -> None:
    told: list[Event] = []
    api.export("a:1", tmp_path / "a.tar", store=models.root, observer=told.append)
    assert told[0] == StoreChosen(models.root, "it was named", ())
    told.clear()
    # What was found once is not looked for again.
    found = api.find_store(models.root)
    api.export("a:1", tmp_path / "again.tar", store=found, observer=told.append)
    assert not any(isinstance(event, StoreChosen) for event in told)
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "again.tar").read_bytes()


def test_streams_there_and_back(models: StoreBuilder, tmp_path: Path) -> None:
    for stream_format in api.FORMATS:
        stream = io.BytesIO()
        api.export(everything=True, archive=stream, store=models.root, stream_format=stream_format)
        stream.seek(0)
        assert api.verify(archive=stream).good
        stream.seek(0)
        done = api.import_archive(stream, store=tmp_path / stream_format)
        assert [str(model.name) for model in done.models] == ["a:1", "b:1"]
        assert done.store == tmp_path / stream_format


def test_a_dry_run_foretells_and_writes_nothing(models: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "all.tar"
    planned = api.plan_export(everything=True, archive=archive, store=models.root)
    assert not archive.exists() and planned.path == archive
    done = api.export(everything=True, archive=archive, store=models.root)
    assert planned.expected_size is not None and 0 <= planned.expected_size - done.size < 10_000
    assert planned.blobs == done.blobs
    would = api.plan_import(archive, store=tmp_path / "target")
    assert not (tmp_path / "target").exists()
    assert "dry_run" in inspect.signature(api.plan_import).parameters and api.plan_import.__doc__ != api.send.__doc__
    for ask, source in ((None, io.BytesIO()), (print, tmp_path / "all.tar.001")):
        with pytest.raises(UsageError, match="dry run"):
            api.import_archive(source, store=tmp_path / "target", ask=ask, dry_run=True)
    assert not (tmp_path / "target").exists()
    assert would.blobs == api.import_archive(archive, store=tmp_path / "target").blobs
    (sent,) = api.plan_send("a:1", str(tmp_path / "target"), store=models.root)
    assert not sent.sent and [str(name) for name in sent.were_there] == ["a:1"]


def test_a_repair_takes_from_one_archive_after_the_other(models: StoreBuilder, tmp_path: Path) -> None:
    good, broken = tmp_path / "good.tar.gz", tmp_path / "broken.tar.gz"
    api.export(everything=True, archive=good, store=models.root)
    broken.write_bytes(good.read_bytes()[:-200])
    store = api.open_store(models.root)
    for blob in store.manifest(next(store.names())).blobs:
        store.blob_path(blob.digest).write_bytes(b"x" * blob.size)
    told: list[Event] = []
    report = api.verify(store=models.root, repair=[broken, good], observer=told.append)
    # Also what came out of the one that ends too early counts.
    assert report.good and report.repaired == 2
    said = [event.text for event in told if isinstance(event, Explained | Noted)]
    assert any(str(broken) in text for text in said) and api.verify(store=models.root).repaired is None


def test_a_model_is_shown_from_a_store_and_an_archive(models: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    api.export("b:1", archive, store=models.root)
    here, there = api.show("b:1", store=models.root), api.show("b:1", archive=archive)
    assert here.manifest.raw == there.manifest.raw and here.place == str(models.root)
    assert [layer.blob for layer in here.layers] == [layer.blob for layer in there.layers]
    # The weights are those of another model, too.
    assert [str(other) for other in here.layers[0].shared_with] == ["a:1"] and not there.layers[0].shared_with
    assert here.own_size == len(b"{{ .Prompt }}")
    assert api.list_models(archive=archive).models[0].manifest is not None


def test_an_archive_is_named_after_its_one_model(
    models: StoreBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert api.export("a:1", store=models.root).path == Path("a-1.tar.gz")
    with pytest.raises(UsageError, match="2 models need") as caught:
        api.export("*:1", store=models.root)
    assert caught.value.remedies[0].parameter == "archive"


def test_what_can_not_be_meant_is_refused(models: StoreBuilder, tmp_path: Path) -> None:
    archive = tmp_path / "a.tar"
    api.export("a:1", archive, store=models.root)
    refused: list[Callable[[], object]] = [
        lambda: api.export(archive=tmp_path / "x.tar", store=models.root),
        lambda: api.export("a:1", tmp_path / "x.tar", store=models.root, everything=True),
        lambda: api.export("a:1", tmp_path / "x.tar", store=models.root, ask=print),
        lambda: api.export("a:1", tmp_path / "x.rar", store=models.root),
        lambda: api.export("a:1", io.BytesIO(), store=models.root, split="4G"),
        lambda: api.export("a:1", io.BytesIO(), store=models.root, stream_format="rar"),
        lambda: api.import_archive(archive, store=tmp_path / "t", ask=print),
        lambda: api.import_archive(archive, store=tmp_path / "t", models="a::b"),
        lambda: api.verify("a:1", archive=archive),
        lambda: api.verify(archive=archive, repair=[archive]),
        lambda: api.show("a:*", store=models.root),
        lambda: api.send("a:1", "host:", store=models.root, ssh=api.Ssh(command="'")),
        lambda: api.send("a:1", "host:", store=models.root, ssh=api.Ssh(rate="fast")),
        lambda: api.send("a:1", "host:", store=models.root, ssh=api.Ssh(rate="0.1")),
        lambda: api.fetch(str(tmp_path / "none"), "a:1", store=tmp_path / "t"),
        lambda: api.push("a:1", "127.0.0.1:1/m", store=models.root, key=archive),
        lambda: api.pull("127.0.0.1:1/library/a:1", tmp_path / "x.tar", rate="0.5"),
    ]  # fmt: skip
    for call in refused:
        with pytest.raises(UsageError) as caught:
            call()
        assert "--" not in f"{caught.value}{caught.value.hint}"
    assert not (tmp_path / "t").exists() and not (tmp_path / "x.tar").exists()


def test_names_of_the_store_and_words_that_are_none(models: StoreBuilder, tmp_path: Path) -> None:
    assert api.has_model("A:1", models.root) and api.has_model("z*", models.root)
    assert not api.has_model("c:1", models.root) and not api.has_model("host:", models.root)
    with pytest.raises(FerryError):
        api.has_model("a:1", tmp_path / "none")
    assert api.Host.parse("ssh://me@there:22/m") == api.Host("me@there", "/m", 22)


def test_types_of_results_are_loaded_when_they_are_asked_for() -> None:
    for name in api._DEFINED_IN:
        assert isinstance(getattr(api, name), type), name
    with pytest.raises(AttributeError):
        _ = api.nothing
