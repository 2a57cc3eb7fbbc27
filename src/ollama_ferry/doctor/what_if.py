"""What if my store ...: what it means for each kind of finding, in the words of docs/what-if.md."""

from __future__ import annotations

WHAT_IF: dict[str, tuple[str, str]] = {
    "missing-blob": (
        "a model lacks a blob",
        "It can't run. `export --all`, patterns, `send` and the rest leave it out and name it; a pull or "
        "`verify --repair ARCHIVE` brings the blob back.",
    ),
    "missing-config": (
        "a model's config is gone",
        "`ollama list` does not show it, and its weights may be whole: `verify --repair ARCHIVE` brings it back.",
    ),
    "wrong-size": (
        "a blob has the wrong size",
        "Ollama takes it as good and keeps it. It is left out and named; remove the blob, then pull or repair.",
    ),
    "unreadable-config": (
        "a config is not JSON",
        "`ollama list` does not show the model. Repair it from an archive, or pull it after removing the config.",
    ),
    "damaged-manifest": (
        "a manifest is empty or no JSON",
        "It is left out and named, and keeps every unnamed blob where it is: they may be its own. Repair or pull it; "
        "never delete it, or a server deletes its blobs.",
    ),
    "being-written": (
        "a manifest is empty and seconds old",
        "Somebody writes it just now. Wait, and look again.",
    ),
    "dangling-link": (
        "a link leads nowhere",
        "A disk is not mounted, most likely. Mount it; only if it is gone for good, remove the link.",
    ),
    "refused-name": (
        "a model has a name that Ollama does not take any more, such as one in Chinese",
        "It is whole, and no server lists it. `export NAME --as NEW` takes it elsewhere; doctor prints the lines that "
        "rename it here. Deleting its manifest would lose its blobs.",
    ),
    "digest-form": (
        "a manifest writes digests as sha256-…",
        "It runs, and the server deletes its blobs at its next start. Pull it, or export it first: archives of it are "
        "whole.",
    ),
    "no-weights": (
        "a model is another program's (ModelPack, Docker Model Runner, Helm) or has no weights",
        "Ollama lists it and can't run it. Another program's is left out and named; pull and import refuse it.",
    ),
    "not-a-manifest": (
        ".DS_Store, desktop.ini, latest.meta or a sync tool's copy lies among the manifests",
        "It is no model and is passed over. As long as it is there, a server deletes no unused blobs.",
    ),
    "newer-layout": (
        "manifests are in manifests-v2/",
        "Both layouts are read, and models are written into the newer one where a store has it.",
    ),
    "unknown-layout": (
        "a list of manifests has none of them here",
        "It is left out and named, and nothing in blobs/ is said to be unused.",
    ),
    "orphans": (
        "there are blobs that no model names",
        "`prune` lists them and puts them into a trash folder, with `--undo`, unless a manifest can't be read or "
        "somebody is at work.",
    ),
    "unfinished": (
        "there are unfinished downloads",
        "`ollama pull` of the model resumes them; `prune` puts old ones into the trash folder.",
    ),
    "leftovers": (
        "an import or a send was interrupted",
        "The same command again resumes it; `prune` puts what is old into the trash folder.",
    ),
    "stray-file": (
        "files in blobs/ have names that are no digest",
        "A server deletes them at its start. Move out what you need; they are never carried and never pruned.",
    ),
    "old-name": (
        "blobs are called sha256:<hex>",
        "Both forms are read; a server renames them at its start.",
    ),
    "link": (
        "the store, blobs/ or manifests/ is a link",
        "It is followed. Archives have no entry that would replace it.",
    ),
    "blob-links": (
        "a blob is a link",
        "It is followed, and archives hold its bytes. What it leads to is never advised away.",
    ),
    "no-blobs": (
        "blobs/ is gone",
        "No model can run. `verify --repair ARCHIVE` brings the blobs back.",
    ),
    "no-manifests": (
        "there is blobs/ and no manifests/",
        "It is a store without models. Bring the manifests back before a server starts, which would delete every blob.",
    ),
    "no-such-store": (
        "OLLAMA_MODELS names a folder that is not there, or begins with ~",
        "Ollama expands no ~ and makes a new, empty store. Write the home out.",
    ),
    "several-stores": (
        "there are several stores",
        "A server sees one of them. `send --all DIR --link --models OTHER` gives the models of one to another on the "
        "same disk without a copy.",
    ),
    "windows-name": (
        "a model comes from a registry with a port",
        "Windows and exFAT take no `:` in a folder's name: give it another name there with `--as`.",
    ),
}
"""By the code of a finding: what the store has, and what that means."""
