"""``ollama-ferry show``."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from ollama_ferry.cli.options import (
    ARCHIVE,
    Output,
    complete_models,
    find_store,
    models_option,
    open_contents,
    output_options,
)
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say
from ollama_ferry.engine.inspect import leaves_out, resolve
from ollama_ferry.engine.ports import Inspectable
from ollama_ferry.errors import UsageError
from ollama_ferry.jobs.list_ import LayerUse, layers_in_use
from ollama_ferry.jobs.select import select
from ollama_ferry.model.names import ModelName, is_pattern
from ollama_ferry.places.store.store import Store
from ollama_ferry.wording import counted, human_size


@click.command("show")
@click.argument("model", shell_complete=complete_models)
@click.argument("archive", required=False, type=ARCHIVE)
@models_option
@output_options
def command(model: str, archive: Path | None, models: Path | None, quiet: bool, verbose: bool, as_json: bool) -> None:
    """Show a model's manifest and every layer, in the store or in ARCHIVE.

    Each layer has its media type, size, digest, file, and the other models that share it.
    """
    output = Output(quiet, verbose, as_json)
    if is_pattern(model):
        raise UsageError(f"show takes one model, and {model!r} is a pattern")
    if archive is not None:
        source = open_contents(archive, output)
        place: Inspectable = source
        name = resolve(source, ModelName.parse(model))
        where, key, path = source.label, "archive", f"manifests/{name.path}"
    else:
        located = find_store(models, output)
        store = Store(located.root)
        (name,) = select(located, [model])
        place, where, key, path = store, str(store.root), "store", str(store.manifest_path(name))
    manifest = place.manifest(name)
    layers = layers_in_use(place, manifest, name)
    if as_json:
        output.document(
            {
                "name": str(name),
                "full_name": name.path,
                key: where,
                "manifest": path,
                "manifest_digest": str(manifest.digest),
                "id": manifest.digest.short,
                "size": manifest.size,
                "modified": manifest.modified,
                "layers": [_fields(place, layer) for layer in layers],
            }
        )
        return
    own = sum(layer.blob.size for layer in layers if not layer.shared_with)
    say(f"{name}")
    say(f"  ID        {manifest.digest.short}")
    say(f"  size      {human_size(manifest.size)} in {counted(len(layers), 'blob')}, {human_size(own)} of it its own")
    if manifest.modified is not None:
        say(f"  modified  {datetime.fromtimestamp(manifest.modified).astimezone():%Y-%m-%d %H:%M:%S %Z}")
    say(f"  manifest  {path}")
    say()
    print_table(
        ("MEDIA TYPE", "SIZE", "DIGEST", "FILE", "SHARED WITH"),
        [
            (
                layer.blob.media_type + (f" {layer.blob.name}" if layer.blob.name else ""),
                human_size(layer.blob.size),
                layer.blob.digest.short,
                place.where(layer.blob.digest) + _state(place, layer),
                ", ".join(map(str, layer.shared_with)) or "-",
            )
            for layer in layers
        ],
        right=(1,),
    )


def _state(place: Inspectable, layer: LayerUse) -> str:
    if leaves_out(place, layer.blob):
        return " (left out: its target has it)"
    if layer.here is None:
        return " (missing)"
    if layer.here != layer.blob.size:
        return f" (damaged: {layer.here} bytes)"
    return ""


def _fields(place: Inspectable, layer: LayerUse) -> dict[str, object]:
    return {
        "media_type": layer.blob.media_type,
        "name": layer.blob.name or None,
        "digest": str(layer.blob.digest),
        "size": layer.blob.size,
        "file": place.where(layer.blob.digest),
        "size_on_disk": layer.here,
        "shared_with": [str(other) for other in layer.shared_with],
    }
