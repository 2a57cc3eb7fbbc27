"""``ollama-ferry pull``."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ollama_ferry import api
from ollama_ferry.cli.export_command import print_exported
from ollama_ferry.cli.import_command import print_imported
from ollama_ferry.cli.options import (
    WORD,
    RegistryOptions,
    all_option,
    checksum_option,
    compress_option,
    dry_run_option,
    exclude_option,
    force_option,
    lock_option,
    models_and_archive,
    output_options,
    registry_options,
    rename_option,
    sha256_option,
    signers_option,
    store_option,
)
from ollama_ferry.cli.output import Output, blobs_fields
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say
from ollama_ferry.errors import UsageError
from ollama_ferry.wording import counted, human_size

if TYPE_CHECKING:
    from ollama_ferry.api import PlannedExport


@click.command("pull")
@click.argument("words", nargs=-1, type=WORD, metavar="MODEL... [ARCHIVE]")
@rename_option
@dry_run_option("Say what would be pulled; write nothing.")
@force_option("Replace another model of the same name, or ARCHIVE if it is there.")
@checksum_option
@compress_option("How ARCHIVE is packed, as for export.")
@sha256_option
@registry_options
@all_option("MODEL is a registry, or a part of it, registry.lab:5000/models: pull every model there.")
@exclude_option
@lock_option
@signers_option
@click.option(
    "--expect", metavar="DIGEST", help="Take this manifest and no other; where it is here, whole, nothing is asked."
)
@click.option(
    "--offline-ok", is_flag=True, help="Where the registry can't be reached, be content with what is here, whole."
)
@click.option(
    "--jitter",
    type=click.FloatRange(0, 7 * 24 * 3600),
    default=0,
    metavar="SECONDS",
    help="Wait so long at most before the registry is asked, by chance.",
)
@store_option
@output_options
def command(
    words: tuple[str, ...],
    dry_run: bool,
    compress: str,
    sha256: bool,
    access: RegistryOptions,
    jitter: float,
    output: Output,
    **asked: Any,
) -> None:
    """Pull models out of registries into the store, or straight into ARCHIVE; Ollama is not needed.

    MODEL is a name as for `ollama pull`, or host[:port]/any/repository[:tag][@sha256:...], which may need --as, or a
    'pattern' of one registry. Logins are those of docker, podman and skopeo. Every byte is hashed; what was interrupted
    is resumed.

    \b
      ollama-ferry pull registry.lab:5000/models/deepseek-r1:8b --as deepseek-r1:8b
      ollama-ferry pull 'registry.lab:5000/models/qwen3:*' --as 'registry.lab:5000/models/*=*'
      ollama-ferry pull deepseek-r1:8b ./deepseek-r1-8b.tar.gz
      ollama-ferry pull hf.co/org/repo-GGUF:Q4_K_M ./repo.tar.gz
    """
    models, archive = models_and_archive(words, of_registries=True)
    if not models and asked["lock"] is None:
        raise UsageError("no model was named", hint="ollama-ferry pull registry.lab:5000/models/deepseek-r1:8b")
    if archive == "-":
        raise UsageError("pull writes a file or the store, and no stream")
    if archive is not None and (asked["store"] is not None or asked["verify_existing"]):
        raise UsageError("--models and --checksum are about a store, and an archive was named")
    if archive is None and sha256:
        raise UsageError("--sha256 is about an archive, and none was named")
    with progress("pulling", output) as observer:
        call = api.plan_pull if dry_run else partial(api.pull, jitter=jitter, compress=compress, sha256=sha256)
        done = call(models, archive, **asked, **access, observer=observer)
    if isinstance(done, api.PlannedExport):
        _print_plan(done, output)
    elif isinstance(done, api.Exported):
        print_exported(done, output, verb="pulled")
    else:
        print_imported(done, output, dry_run=dry_run, verb="pull")


def _print_plan(planned: PlannedExport, output: Output) -> None:
    if output.as_json:
        output.document(
            {
                "archive": str(planned.path),
                "format": planned.kind.value[1:],
                "models": [
                    {"name": str(model.name), "manifest_digest": str(model.manifest.digest)} for model in planned.models
                ],
                "blobs": blobs_fields(planned.blobs),
                "size": sum(blob.size for blob in planned.blobs),
            }
        )
        return
    for model in planned.models:
        say(f"would pull {model.name} ({model.manifest.digest.short})")
    print_table(("BLOB", "SIZE"), [(blob.digest.short, human_size(blob.size)) for blob in planned.blobs], right=(1,))
    size = human_size(sum(blob.size for blob in planned.blobs))
    say(f"{counted(len(planned.blobs), 'blob')}, {size}; nothing was written")
