"""``doctor`` on which stores there are, and which one the server uses."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest

from ollama_ferry.doctor.findings import Severity
from ollama_ferry.doctor.machine import check_machine
from ollama_ferry.errors import StoreNotFound
from support.checking import PLENTY, checked, codes, one, only, run, system, unit
from support.command_line import ferry
from support.stores import StoreBuilder


@pytest.fixture
def models(source: StoreBuilder) -> StoreBuilder:
    """A store with nothing wrong."""
    source.model("qwen3:8b", [("model", b"w" * 5000), ("template", b"t")])
    return source


def test_all_stores_are_told_and_which_one_the_server_uses(tmp_path: Path) -> None:
    user = StoreBuilder(tmp_path / "home/.ollama/models")
    user.model("mine:1")
    service = StoreBuilder(tmp_path / "service/.ollama/models")
    service.model("theirs:1")
    service.model("theirs:2")
    report = check_machine(system(tmp_path, str(service.root)), free=lambda folder: PLENTY)
    assert [(s.path, s.chosen, s.served, s.held and s.held.models) for s in report.stores] == [
        (service.root, True, True, 2),
        (user.root, False, False, 1),
    ]
    finding = only(report, "several-stores")
    assert finding.severity is Severity.WARNING and "invisible" in finding.text
    run(finding.mend[-1].replace("ollama-ferry", f"{shlex.quote(sys.executable)} -m ollama_ferry"))
    assert service.manifest_path("mine:1").is_file()


def test_several_stores_and_no_server(tmp_path: Path) -> None:
    StoreBuilder(tmp_path / "home/.ollama/models").model("mine:1")
    StoreBuilder(tmp_path / "service/.ollama/models").model("theirs:1")
    finding = only(check_machine(system(tmp_path), free=lambda folder: PLENTY), "several-stores")
    assert finding.severity is Severity.WARNING and len(finding.concerns) == 2


def test_one_store_under_two_names_is_one(tmp_path: Path) -> None:
    store = StoreBuilder(tmp_path / "service/.ollama/models")
    store.model("a")
    (tmp_path / "home/.ollama").mkdir(parents=True)
    (tmp_path / "home/.ollama/models").symlink_to(store.root)
    report = check_machine(system(tmp_path, str(store.root)), free=lambda folder: PLENTY)
    assert len(report.stores) == 1 and "several-stores" not in codes(report)


def test_variable_names_another_store_than_the_servers(models: StoreBuilder, tmp_path: Path) -> None:
    served = StoreBuilder(tmp_path / "served")
    served.model("a")
    machine = system(tmp_path, str(served.root), OLLAMA_MODELS=str(models.root))
    report = check_machine(machine, free=lambda folder: PLENTY)
    finding = only(report, "not-the-servers")
    assert finding.severity is Severity.WARNING
    assert finding.mend[0] == f"export OLLAMA_MODELS={served.root}"
    # A pull would go elsewhere: it is not proposed for this store.
    models.blob_path(models.blob(b"t")).unlink()
    finding = one(check_machine(machine, free=lambda folder: PLENTY), "missing-blob")
    assert not any("ollama pull" in line for line in finding.mend) and any("--repair" in line for line in finding.mend)


def test_option_names_another_store_than_the_servers(models: StoreBuilder, tmp_path: Path) -> None:
    served = StoreBuilder(tmp_path / "served")
    served.model("a")
    report = checked(models, tmp_path, answer=str(served.root))
    assert only(report, "not-the-servers").concerns == (str(models.root), str(served.root))
    assert [store.held is None for store in report.stores] == [False, True]
    assert codes(checked(models, tmp_path, answer=str(models.root))) == []


def test_variable_names_no_store(tmp_path: Path) -> None:
    StoreBuilder(tmp_path / "home/.ollama/models").model("a")
    machine = system(tmp_path, OLLAMA_MODELS=str(tmp_path / "typo"))
    finding = only(check_machine(machine, free=lambda folder: PLENTY), "no-such-store")
    assert finding.severity is Severity.PROBLEM and finding.mend == ("unset OLLAMA_MODELS",)


@pytest.mark.parametrize("answer", ["/root/in/a/container/models", "C:\\Users\\x\\.ollama\\models"])
def test_server_elsewhere(models: StoreBuilder, tmp_path: Path, answer: str) -> None:
    finding = only(checked(models, tmp_path, answer=answer), "server-elsewhere")
    assert finding.severity is Severity.NOTE and answer in finding.text


def test_folder_that_the_unit_sets_is_not_there(models: StoreBuilder, tmp_path: Path) -> None:
    unit(tmp_path, "User=root", f"Environment=OLLAMA_MODELS={tmp_path}/not-mounted")
    finding = only(checked(models, tmp_path), "no-service-store")
    assert finding.severity is Severity.WARNING and "not mounted" in finding.text
    assert finding.mend[-1] == f"sudo install -d -o root -g root {tmp_path}/not-mounted"


def test_setting_that_is_not_in_effect(models: StoreBuilder, tmp_path: Path) -> None:
    store = StoreBuilder(tmp_path / "data")
    (store.root / "manifests").mkdir(parents=True)
    unit(tmp_path, "User=root", f"Environment=OLLAMA_MODELS={store.root}")
    finding = only(checked(models, tmp_path, answer=str(models.root)), "not-in-effect")
    assert finding.severity is Severity.WARNING and "systemctl daemon-reload" in finding.mend[0]


def test_no_store_at_all(tmp_path: Path) -> None:
    with pytest.raises(StoreNotFound):
        check_machine(system(tmp_path))
    done = ferry("doctor", "--json", "--models", tmp_path / "none")
    assert done.returncode == 3 and "Traceback" not in done.stderr and not done.stdout


@pytest.mark.parametrize("value", ["~/models", "models"])
def test_relative_folder_in_the_unit(models: StoreBuilder, tmp_path: Path, value: str) -> None:
    unit(tmp_path, "User=root", f"Environment=OLLAMA_MODELS={value}")
    finding = only(checked(models, tmp_path), "relative-store")
    assert finding.severity is Severity.PROBLEM and value in finding.text
