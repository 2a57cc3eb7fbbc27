"""``ollama-ferry verify``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ollama_ferry import api
from ollama_ferry.cli.options import (
    FILE,
    WORD,
    all_option,
    complete_models,
    exclude_option,
    lock_option,
    open_stdin,
    output_options,
    signers_option,
    ssh_options,
    store_option,
    threads_option,
)
from ollama_ferry.cli.output import Output, left_out_fields, tell_left_out, took
from ollama_ferry.cli.progress import progress
from ollama_ferry.cli.tables import print_table
from ollama_ferry.cli.terminal import say
from ollama_ferry.errors import Damaged, NotFound, UsageError
from ollama_ferry.shell_lines import one_then_other, quoted, removal
from ollama_ferry.wording import counted, human_size, reading_order

if TYPE_CHECKING:
    from ollama_ferry.api import Problem, Report, Store, Verdict


@dataclass(frozen=True)
class _Asked:
    """The command's words and options."""

    words: tuple[str, ...]
    everything: bool
    exclude: tuple[str, ...]
    repair: tuple[Path, ...]
    threads: int
    changed: bool
    lock: Path | None
    signers: Path | None
    ssh: api.Ssh
    store: Path | None


@click.command("verify")
@click.argument("words", nargs=-1, type=WORD, metavar="[PLACE | SUMS] [MODEL...]", shell_complete=complete_models)
@all_option("Every model of the store, as without a word.")
@exclude_option
@click.option(
    "--repair",
    multiple=True,
    metavar="ARCHIVE",
    type=FILE,
    help="Take good copies of damaged blobs from this archive; may be repeated.",
)
@click.option(
    "--changed",
    is_flag=True,
    help="Of a store: hash only blobs changed since the last --changed. Bits that a disk has lost do not show.",
)
@threads_option("hash")
@lock_option
@signers_option
@ssh_options
@store_option
@output_options
def command(output: Output, **asked: Any) -> None:
    """Hash every blob of the store, of some models, or of PLACE (an archive, a folder, a host): is it whole?

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
    _verify(_Asked(**asked), output)


def _verify(asked: _Asked, output: Output) -> None:
    words = asked.words
    if asked.everything and len(words) > 1:
        raise UsageError("--all verifies every model; name none beside it")
    if words and words[0].endswith(".sha256"):
        if len(words) > 1 or asked.repair or asked.lock or asked.signers or asked.changed:
            raise UsageError("verify takes one file of sums, and nothing else")
        _verify_volumes(Path(words[0]), output)
        return
    place, models = api.place_and_models(words)
    if place is not None and asked.repair:
        raise UsageError("verify repairs the store here, and no other place: --models DIR names one")
    if asked.changed and (place is not None or asked.repair):
        raise UsageError("--changed is about the store here, and repairs nothing: --models DIR names one")
    if place is None:
        with progress("verifying", output) as observer:
            report = api.verify(
                models,
                exclude=asked.exclude,
                store=asked.store,
                repair=asked.repair,
                threads=asked.threads,
                changed=asked.changed,
                lock=asked.lock,
                signers=asked.signers,
                observer=observer,
            )
        _finish(report, output, store=api.open_store(report.place))
    elif place[1] is api.Means.HOST:
        with progress("verifying", output) as observer:
            report = api.verify(
                models, host=place[0], ssh=asked.ssh, lock=asked.lock, signers=asked.signers, observer=observer
            )
        _finish(report, output, store=None)
    else:
        if models and place[1] is not api.Means.FOLDER:
            raise UsageError("an archive is verified as a whole: name no model beside it")
        _finish(_verify_archive(place[0], models, asked, output), output, store=None)


def _verify_archive(word: str, models: list[str], asked: _Asked, output: Output) -> Report:
    with progress("verifying", output) as observer:
        if word != "-":
            return api.verify(
                models, archive=word, threads=asked.threads, lock=asked.lock, signers=asked.signers, observer=observer
            )
        with open_stdin() as stdin:
            return api.verify(archive=stdin, lock=asked.lock, signers=asked.signers, observer=observer)


def _verify_volumes(sums: Path, output: Output) -> None:
    with progress("verifying", output) as observer:
        verdicts = api.verify_volumes(sums, observer=observer)
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


def _finish(report: Report, output: Output, *, store: Store | None) -> None:
    """Print the report, and end with exit code 4 where something is damaged."""
    if output.as_json:
        output.document(_fields(report))
    else:
        _print(report, output)
    tell_left_out(report.not_carried, output, "export")
    if not report.good:
        bad = sum(not model.good for model in report.models)
        what = f"{bad} of {counted(len(report.models), 'model')}"
        if not bad:
            what = f"{counted(len(report.unnamed), 'blob')} that no model names"
        raise Damaged(f"damaged in {report.place}: {what}", hint=_advice(report, store))


def _print(report: Report, output: Output) -> None:
    models = sorted(report.models, key=lambda model: reading_order(str(model.name)))
    if not output.quiet and models:
        print_table(
            ("NAME", "ID", "SIZE", "RESULT", ""),
            [
                (
                    str(model.name),
                    model.manifest.digest.short if model.manifest else "-",
                    human_size(model.manifest.size) if model.manifest else "-",
                    "good" if model.good else "damaged",
                    _detail(model),
                )
                for model in models
            ],
            right=(2,),
            below=(4,),
            spare=(1, 2),
            colours=["" if model.good else "red" for model in models],
        )
    if not output.quiet and not report.models:
        say(f"no models in {report.place}")
    if not output.quiet:
        checked = f"checked {counted(report.blobs, 'blob')}, {human_size(report.size)}"
        say(f"{checked} in {took(report.seconds, report.size)}" if report.blobs else "checked no blob")
        if report.unchanged is not None:
            say(f"not hashed, for nobody changed them since they were: {counted(report.unchanged, 'blob')}")
    if report.signed_by:
        say(f"signed by {report.signed_by}")
    if report.repaired is not None:
        say(f"repaired {report.repaired} blobs and manifests")
    for problem in report.unnamed:
        say(f"damaged, and named by no model: {_said(problem)}")


def _detail(model: Verdict) -> str:
    if not model.good:
        return "; ".join(_said(problem) for problem in model.problems[:3])
    return f"but for {counted(model.left_out, 'blob')} that it counts on at its target" if model.left_out else ""


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
        f"  ollama-ferry verify --models {quoted(store.root)} --repair ARCHIVE",
    ]
    lines.append("Or where the registry can be reached (Ollama keeps a damaged blob until it is deleted):")
    for model in report.models:
        if model.good:
            continue
        files = [
            store.where(problem.blob.digest)
            for problem in model.problems
            if problem.blob is not None and problem.in_the_way
        ]
        pull = f"ollama pull {quoted(model.name)}"
        remove = api.as_owner(removal(files[:5]), store.blobs_folder) if files else ""
        lines.append(f"  {one_then_other(remove, pull) if remove else pull}")
    return "\n".join(lines[:20])


def _fields(report: Report) -> dict[str, object]:
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
        "left_out": left_out_fields(report.not_carried),
        "repaired": report.repaired,
        **({"signed_by": report.signed_by} if report.signed_by else {}),
        **({"unchanged": report.unchanged} if report.unchanged is not None else {}),
        "seconds": round(report.seconds, 3),
    }


def _problem_fields(problem: Problem) -> dict[str, object]:
    return {
        "fault": problem.fault.name.lower(),
        "text": problem.text or problem.fault.value,
        "digest": str(problem.blob.digest) if problem.blob else None,
        "kind": problem.blob.kind if problem.blob else None,
    }
