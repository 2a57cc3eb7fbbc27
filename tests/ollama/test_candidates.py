"""Which stores there are, and when what a server says is believed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from ollama_ferry.doctor.machine import check_machine
from ollama_ferry.errors import NotPermitted, Remedy, StoreNotFound
from ollama_ferry.ollama.candidates import State, StoreOrigin, System, list_candidates
from ollama_ferry.ollama.locate import locate, locate_target
from ollama_ferry.ollama.server import ServerAnswer
from support import needs
from support.checking import codes, system, telling, unit
from support.command_line import assert_one_clear_error, ferry
from support.stores import StoreBuilder

STRANGER, OTHER = 54321, 54322

root_only = needs.root("needs root, to give files away")


def store(path: Path, *names: str) -> Path:
    builder = StoreBuilder(path)
    (path / "manifests").mkdir(parents=True)
    (path / "blobs").mkdir()
    for name in names:
        builder.model(name)
    return path


def machine(tmp_path: Path, uid: int, told: Path, *owners: int, **environ: str) -> System:
    return replace(system(tmp_path, **environ), uid=uid, ask=telling(str(told), *owners))


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The store in this user's home."""
    return store(tmp_path / "home/.ollama/models", "mine")


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A store that somebody else's server names."""
    return store(tmp_path / "planted", "bait")


@pytest.mark.parametrize("uid", [0, 1000])
def test_strangers_server_does_not_choose_the_store(tmp_path: Path, own: Path, planted: Path, uid: int) -> None:
    there = machine(tmp_path, uid, planted, STRANGER)
    for found in (locate(there), locate_target(there)):
        assert found.root == own
        (note,) = found.notes
        assert str(own) in note and str(planted) in note and str(STRANGER) in note


def test_root_takes_no_strangers_store_at_all(tmp_path: Path, planted: Path) -> None:
    there = machine(tmp_path, 0, planted, STRANGER)
    with pytest.raises(StoreNotFound) as caught:
        locate(there)
    assert str(STRANGER) in caught.value.hint and caught.value.remedies == (Remedy("store", str(planted)),)
    # A user who is not root has nothing to give away that the stranger's server could not have from him.
    assert locate(replace(there, uid=1000)).root == planted


def test_root_writes_to_no_strangers_store(tmp_path: Path, planted: Path) -> None:
    (tmp_path / "home/.ollama").mkdir(parents=True)
    assert locate_target(machine(tmp_path, 0, planted, STRANGER)).root == tmp_path / "home/.ollama/models"


@pytest.mark.parametrize("owners", [(0,), (1000,), (0, 1000)])
def test_own_and_roots_servers_are_believed(tmp_path: Path, own: Path, planted: Path, owners: tuple[int, ...]) -> None:
    for folder in (planted / "manifests", planted / "blobs"):
        folder.chmod(0o777)
    found = locate(machine(tmp_path, 1000, planted, *owners))
    assert (found.root, found.others, found.notes) == (planted, (own,), ())


def test_two_who_listen_are_both_looked_at(tmp_path: Path, own: Path, planted: Path) -> None:
    planted.joinpath("manifests").chmod(0o777)
    assert locate(machine(tmp_path, 1000, planted, 1000, STRANGER)).root == own


def test_root_is_told_when_a_server_had_the_last_word(tmp_path: Path, own: Path) -> None:
    elsewhere = store(tmp_path / "data", "a")
    found = locate(machine(tmp_path, 0, elsewhere, 0))
    assert found.root == elsewhere
    assert len(found.notes) == 1 and str(own) in found.notes[0] and str(elsewhere) in found.notes[0]
    # One that is Ollama's default anyway surprises nobody.
    service = store(tmp_path / "service/.ollama/models", "b")
    assert locate(machine(tmp_path, 0, service, 0)).notes == ()


@root_only
def test_server_must_be_able_to_write_what_it_names(tmp_path: Path, own: Path, planted: Path) -> None:
    """A user's own server can't name a folder of others: it would not work there."""
    found = locate(machine(tmp_path, 1000, planted, 1000))
    assert found.root == own and "may not write there" in found.notes[0]


@root_only
def test_services_server_is_believed(tmp_path: Path, own: Path, planted: Path) -> None:
    import pwd

    unit(tmp_path, "User=nobody")
    nobody = pwd.getpwnam("nobody").pw_uid
    assert locate(machine(tmp_path, 0, planted, nobody)).root == own
    for folder in (planted / "manifests", planted / "blobs"):
        os.chown(folder, nobody, -1)
    assert locate(machine(tmp_path, 0, planted, nobody)).root == planted


def test_server_whose_owner_is_not_known(tmp_path: Path, own: Path, planted: Path) -> None:
    there = replace(
        system(tmp_path), uid=0, ask=lambda address: ServerAnswer(address, True, True, str(planted), owners=None)
    )
    assert locate(there).root == own
    assert locate(replace(there, uid=1000)).root == planted
    assert locate(replace(there, uid=None)).root == planted
    # Here it could have been found, and was not.
    gone = replace(there, uid=1000, ask=lambda address: ServerAnswer(address, True, True, str(planted), frozenset()))
    assert locate(gone).root == own


def test_server_on_another_machine_names_no_folder_here(tmp_path: Path, own: Path, planted: Path) -> None:
    there = replace(system(tmp_path), ask=lambda address: ServerAnswer(address, True, False, str(planted)))
    assert locate(there).root == own


@needs.any_names
def test_names_are_quoted_in_notes(tmp_path: Path, own: Path) -> None:
    odd = store(tmp_path / "\x1b[31mred", "a")
    (note,) = locate(machine(tmp_path, 1000, odd, STRANGER)).notes
    assert note.isprintable()


def test_doctor_says_that_a_server_is_not_believed(tmp_path: Path, own: Path, planted: Path) -> None:
    report = check_machine(machine(tmp_path, 0, planted, STRANGER), free=lambda folder: None)
    assert "doubted-server" in codes(report)
    assert [(one.path, one.chosen, one.served) for one in report.stores] == [(own, True, None), (planted, False, None)]
    # Nor is anything copied there.
    assert not any(str(planted) in line for finding in report.findings for line in finding.mend if finding.store == "")


def test_doctor_shows_what_locating_picks_from(tmp_path: Path, own: Path) -> None:
    store(tmp_path / "data", "a")
    unit(tmp_path, "User=root", f"Environment=OLLAMA_MODELS={tmp_path}/data")
    listed = list_candidates(system(tmp_path))
    assert listed.found[0].path == tmp_path / "data"
    shown = check_machine(system(tmp_path), free=lambda folder: None).stores
    assert {one.path for one in shown} == {one.path for one in listed.found if one.state is not State.ABSENT}
    assert shown[0].path == locate(system(tmp_path)).root == tmp_path / "data"
    assert listed.found[0].origins == {StoreOrigin.UNIT}


def test_tilde_in_the_variable_is_not_expanded(tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ollama takes it for a folder of that name, and so would we write there."""
    monkeypatch.chdir(tmp_path)
    there = system(tmp_path, OLLAMA_MODELS='"~/.ollama/models"')
    for find in (locate, locate_target):
        with pytest.raises(StoreNotFound) as caught:
            find(there)
        assert str(own) in caught.value.hint and not (tmp_path / "~").exists()
    report = check_machine(there, free=lambda folder: None)
    (finding,) = [one for one in report.findings if one.code == "no-such-store"]
    assert "does not expand" in finding.text
    assert locate(there, own).root == own


def test_store_without_manifests_is_there(tmp_path: Path) -> None:
    root = tmp_path / "home/.ollama/models"
    StoreBuilder(root).blob(b"x")
    assert locate(system(tmp_path)).root == root
    assert locate(system(tmp_path), root).root == root
    report = check_machine(system(tmp_path), free=lambda folder: None)
    assert "no-manifests" in codes(report)
    assert not any("rm" in line for finding in report.findings for line in finding.mend)


def test_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    (tmp_path / "home/.ollama").mkdir(parents=True)
    (tmp_path / "home/.ollama/models").symlink_to(tmp_path / "not-mounted")
    with pytest.raises(StoreNotFound) as caught:
        locate(system(tmp_path))
    assert "leads nowhere" in caught.value.hint


def test_server_without_a_folder_is_not_said_to_be_silent(tmp_path: Path) -> None:
    there = replace(system(tmp_path), ask=lambda address: ServerAnswer(address, answered=True, local=True))
    with pytest.raises(StoreNotFound) as caught:
        locate(there)
    assert "names no folder" in caught.value.hint and "no server answered" not in caught.value.hint


@needs.root_on_linux("needs root on Linux, to become another user")
def test_closed_folder_of_the_services_server(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    store(closed / "models")
    closed.chmod(0o700)
    for folder in (tmp_path, *tmp_path.parents):
        if folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    os.seteuid(65534)
    try:
        with pytest.raises(NotPermitted):
            locate(machine(tmp_path, 65534, closed / "models", 0))
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    "words", ["list {}.tar", "list --models {}", "import {}.tar --models into", "export a:1 --models {}"]
)
def test_a_home_that_nobody_has_is_no_mistake_of_ours(words: str) -> None:
    done = ferry(*words.format("~nobody-here/x").split())
    assert_one_clear_error(done, 3)
    assert "~nobody-here" in done.stderr and "internal error" not in done.stderr
