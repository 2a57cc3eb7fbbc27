"""``ollama-ferry verify``."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path

import click

from ollama_ferry.archives.kinds import looks_like_archive
from ollama_ferry.archives.volumes.checking import verify_volumes
from ollama_ferry.cli.options import (
    ARCHIVE,
    Output,
    complete_models,
    find_store,
    models_option,
    open_stdin,
    output_options,
)
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.remote import SshWords, looks_like_place, open_ssh, place_of, ssh_options
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say
from ollama_ferry.errors import Cancelled, Damaged, FerryError, NoSpace, NotFound, NotPermitted, UsageError
from ollama_ferry.jobs.repair import repair
from ollama_ferry.jobs.report import Fault, Problem, Report, Verdict
from ollama_ferry.jobs.select import pick, select
from ollama_ferry.jobs.verify import verify_file, verify_place, verify_stream
from ollama_ferry.model.names import ModelName
from ollama_ferry.places.archive.file import ArchiveFile
from ollama_ferry.places.archive.stream import ArchiveStream
from ollama_ferry.places.store.store import Store
from ollama_ferry.wording import counted, human_size


@click.command("verify")
@click.argument("words", nargs=-1, metavar="[MODEL... | ARCHIVE | SUMS | HOST]", shell_complete=complete_models)
@click.option(
    "--repair",
    "archives",
    multiple=True,
    metavar="ARCHIVE",
    type=ARCHIVE,
    help="Take good copies of damaged blobs from this archive; may be repeated.",
)
@click.option("--threads", type=click.IntRange(1, 64), help="How many threads hash.  [default: one a core, up to 8]")
@ssh_options
@models_option
@output_options
def command(
    words: tuple[str, ...],
    archives: tuple[Path, ...],
    threads: int | None,
    ssh_words: SshWords,
    models: Path | None,
    quiet: bool,
    verbose: bool,
    as_json: bool,
) -> None:
    """Hash every blob of the store, of some models, or of an archive: is it whole?

    It needs no registry and no server, and changes nothing unless told to --repair. Exit code 4 means that something is
    damaged; what mends it is printed.

    \b
      ollama-ferry verify                          every model of the store
      ollama-ferry verify deepseek-r1:8b           one
      ollama-ferry verify ./models.tar.gz          an archive, before or after it travels
      ollama-ferry verify ./models.sha256          the volumes of one that are here, each by itself
      ollama-ferry verify --repair ./models.tar.gz
      ollama-ferry verify user@server              every model there; hashed there
    """
    output = Output(quiet, verbose, as_json)
    of_host = [word for word in words if looks_like_place(word) and place_of(word).host]
    if of_host:
        if archives or words[0] != of_host[0] or len(of_host) > 1:
            raise UsageError("verify takes one host, then models of it if not all, and repairs nothing there")
        _finish(_verify_host(of_host[0], words[1:], ssh_words, output), output, store=None)
        return
    if words and words[0].endswith(".sha256"):
        if len(words) > 1 or archives:
            raise UsageError("verify takes one file of sums, and nothing else")
        _verify_volumes(Path(words[0]).expanduser(), output)
        return
    of_archive = [word for word in words if looks_like_archive(word)]
    if of_archive:
        if len(words) > 1 or archives:
            raise UsageError("verify takes models of the store, or one archive and nothing else")
        _finish(_verify_archive(of_archive[0], threads or 0, output), output, store=None)
        return
    for word in words:
        if Path(word).is_dir():
            raise UsageError(f"{word} is a folder, and no model", hint=f"To verify a store: --models {word}")
    for archive in archives:
        # One that is not there is told before hours of hashing.
        with ArchiveFile(archive):
            pass
    located = find_store(models, output)
    store = Store(located.root)
    names = select(located, words) if words else list(store.names())
    report = _verify_models(store, names, threads or 0, output)
    repaired = 0
    for archive in archives:
        if report.good:
            break
        try:
            with progress("repairing", quiet=quiet or as_json) as run:
                repaired += repair(store, report, archive, run=run)
        except (Cancelled, NoSpace, NotPermitted):
            raise
        except FerryError as error:
            # The next archive may have what this one has not; what it had is told by the table.
            say(f"not repaired from {archive}: {error.message}", err=True)
        # Hashed anew: a repair is believed when it is seen.
        bad = {model.name for model in report.models if not model.good}
        again = _verify_models(store, sorted(bad), threads or 0, output)
        report = _merged(report, again)
    _finish(report, output, store=store, repaired=repaired if archives else None)


def _verify_models(store: Store, names: list[ModelName], threads: int, output: Output) -> Report:
    with progress("verifying", quiet=output.quiet or output.as_json) as run:
        return verify_place(store, names, threads=threads, run=run)


def _verify_host(word: str, texts: tuple[str, ...], ssh_words: SshWords, output: Output) -> Report:
    with ExitStack() as stack, progress("verifying", quiet=output.quiet or output.as_json) as run:
        place = open_ssh(stack, place_of(word), ssh_words)
        place.look()
        names = pick(place, texts, place.label) if texts else list(place.names())
        return verify_place(place, names, run=run)


def _verify_archive(word: str, threads: int, output: Output) -> Report:
    with progress("verifying", quiet=output.quiet or output.as_json) as run:
        if word == "-":
            with open_stdin() as stdin:
                stream = ArchiveStream(stdin, "the stream", tick=run.advanced)
                return verify_stream(stream, run=run)
        return verify_file(Path(word).expanduser(), threads=threads, run=run)


def _verify_volumes(sums: Path, output: Output) -> None:
    with progress("verifying", quiet=output.quiet or output.as_json) as run:
        verdicts = verify_volumes(sums, run=run)
    if output.as_json:
        output.document({"sums": str(sums), "volumes": [{"name": v.name, "result": v.result} for v in verdicts]})
    elif not output.quiet:
        print_table(("VOLUME", "RESULT"), [(verdict.name, verdict.result) for verdict in verdicts])
    damaged = [verdict.name for verdict in verdicts if verdict.result == "damaged"]
    missing = [verdict.name for verdict in verdicts if verdict.result == "not here"]
    if damaged:
        raise Damaged(f"{', '.join(damaged[:8])} of {sums} are damaged", hint="Copy them again.")
    if missing:
        raise NotFound(f"{', '.join(missing[:8])} of {sums} are not here", hint="What is here is good.")


def _merged(before: Report, again: Report) -> Report:
    newer = {model.name: model for model in again.models}
    return Report(
        place=before.place,
        models=tuple(newer.get(model.name, model) for model in before.models),
        blobs=before.blobs,
        size=before.size,
        unnamed=before.unnamed,
        seconds=before.seconds + again.seconds,
    )


def _finish(report: Report, output: Output, *, store: Store | None, repaired: int | None = None) -> None:
    """Print the report, and end with exit code 4 where something is damaged."""
    if output.as_json:
        output.document(_fields(report, repaired))
    else:
        _print(report, output, store, repaired)
    if not report.good:
        bad = sum(not model.good for model in report.models)
        what = f"{bad} of {counted(len(report.models), 'model')}"
        if not bad:
            what = f"{counted(len(report.unnamed), 'blob')} that no model names"
        raise Damaged(f"damaged in {report.place}: {what}", hint=_advice(report, store))


def _print(report: Report, output: Output, store: Store | None, repaired: int | None) -> None:
    if not output.quiet and report.models:
        print_table(
            ("NAME", "ID", "SIZE", "RESULT"),
            [
                (
                    str(model.name),
                    model.manifest.digest.short if model.manifest else "-",
                    human_size(model.manifest.size) if model.manifest else "-",
                    _result(model),
                )
                for model in report.models
            ],
            right=(2,),
        )
    if not output.quiet and not report.models:
        say(f"no models in {report.place}")
    if not output.quiet:
        seconds = max(report.seconds, 0.001)
        say(
            f"checked {counted(report.blobs, 'blob')}, {human_size(report.size)} in {seconds:.1f} s "
            f"({human_size(report.size / seconds)}/s)"
        )
    if repaired is not None:
        say(f"repaired {repaired} blobs and manifests")
    for problem in report.unnamed:
        say(f"damaged, and named by no model: {_said(problem)}")


def _result(model: Verdict) -> str:
    if not model.good:
        return "damaged: " + "; ".join(_said(problem) for problem in model.problems[:3])
    return (
        f"good, but for {counted(model.left_out, 'blob')} that it counts on at its target" if model.left_out else "good"
    )


def _said(problem: Problem) -> str:
    if problem.blob is None:
        return problem.text
    kind = f"{problem.blob.kind} " if problem.blob.kind else ""
    detail = f" ({problem.text})" if problem.text else ""
    return f"{kind}blob {problem.blob.digest.short} is {problem.fault.value}{detail}"


def _advice(report: Report, store: Store | None) -> str:
    """Say what mends each damaged model."""
    if store is None:
        return "Bring it again from where it came from: export, or `ollama-ferry send --checksum` to another host."
    lines = [
        "Take good copies from an archive that has them:",
        f"  ollama-ferry verify --models {shlex.quote(str(store.root))} --repair ARCHIVE",
    ]
    lines.append("Or where the registry can be reached (Ollama keeps a damaged blob until it is deleted):")
    for model in report.models:
        if model.good:
            continue
        files = [
            store.where(problem.blob.digest)
            for problem in model.problems
            if problem.blob is not None and problem.fault in (Fault.CONTENT, Fault.SIZE)
        ]
        remove = f"rm {shlex.join(files[:5])} && " if files else ""
        lines.append(f"  {remove}ollama pull {shlex.quote(str(model.name))}")
    return "\n".join(lines[:20])


def _fields(report: Report, repaired: int | None) -> dict[str, object]:
    return {
        "place": report.place,
        "good": report.good,
        "models": [
            {
                "name": str(model.name),
                "id": model.manifest.digest.short if model.manifest else None,
                "good": model.good,
                "left_out": model.left_out,
                "problems": [_problem_fields(problem) for problem in model.problems],
            }
            for model in report.models
        ],
        "unnamed": [_problem_fields(problem) for problem in report.unnamed],
        "blobs": report.blobs,
        "size": report.size,
        "repaired": repaired,
        "seconds": round(report.seconds, 3),
    }


def _problem_fields(problem: Problem) -> dict[str, object]:
    return {
        "fault": problem.fault.name.lower(),
        "text": problem.text or problem.fault.value,
        "digest": str(problem.blob.digest) if problem.blob else None,
        "kind": problem.blob.kind if problem.blob else None,
    }
