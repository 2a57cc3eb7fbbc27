from __future__ import annotations

import importlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from ollama_ferry.places.store.store import Store
from support import needs
from support.sshd import Sshd
from support.sshd import serving as sshd_serving
from support.stores import StoreBuilder
from support.tools import require_tool

# A slow machine is no failure: nothing here is a timed test.
settings.register_profile("ferry", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# Whether a change is refused must not be a matter of luck.
settings.register_profile("same in every run", settings.get_profile("ferry"), derandomize=True, database=None)

if needs.UNDER_WINE:
    # Wine 8 has no CopyFile2, and ends the process.
    vars(importlib.import_module("_winapi")).pop("CopyFile2", None)

# A shell that runs the tests in the background has them ignore Ctrl-C, and so would every program that they interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What calls Windows itself; and there, what looks at the tree, or drives tools of POSIX.
collect_ignore_glob = (
    ["test_structure.py", "test_dev.py", "test_benchmarks.py", "test_release.py", "test_fleet_recipes.py"]
    if needs.ON_WINDOWS
    else ["*_on_windows.py"]
)
# What counts or draws by chance what is the same everywhere, and takes minutes under Wine: there with --long only.
_SAME_EVERYWHERE = frozenset({"test_import_growth.py", "test_fuzz_archives.py", "test_rate.py"})
NO_SKIP = os.environ.get("FERRY_NO_SKIP") == "1"


@pytest.fixture
def source(tmp_path: Path) -> StoreBuilder:
    """An empty store to fill, which the tests read from."""
    builder = StoreBuilder(tmp_path / "source")
    (builder.root / "manifests").mkdir(parents=True)
    (builder.root / "blobs").mkdir()
    return builder


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Keep the tests away from this machine's own stores and servers."""
    for variable in ("OLLAMA_MODELS", "SOURCE_DATE_EPOCH", "SUDO_USER", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    for variable in [name for name in os.environ if name.startswith("OLLAMA_FERRY_")]:
        monkeypatch.delenv(variable)
    # Nor may the logins and proxies of whoever runs the tests play a part.
    for variable in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "SSL_CERT_FILE"):
        monkeypatch.delenv(variable, raising=False)
    for variable in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(variable)
    # Port 9 (discard): nobody answers there.
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:9")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))


@pytest.fixture(autouse=needs.ON_WINDOWS)
def skip_what_windows_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip a test when it comes to a call that Windows has not, or not for everybody."""

    def lacking(what: str) -> Callable[..., None]:
        return lambda *arguments, **named: pytest.skip(f"Windows has no {what}")

    real_start, real_signal = subprocess.Popen.__init__, subprocess.Popen.send_signal

    def start(process: Any, words: Any, *arguments: Any, **named: Any) -> None:
        program = "POSIX shell" if named.get("shell") else words if isinstance(words, str) else Path(words[0]).name
        if program == "POSIX shell" or program in needs.POSIX_PROGRAMS:
            pytest.skip(f"Windows has no {program}")
        real_start(process, words, *arguments, **named)

    def send(process: Any, number: int) -> None:
        if number in (signal.SIGINT, signal.SIGTERM):
            process.kill()
            process.communicate()
            pytest.skip("Windows has no POSIX signals")
        real_signal(process, number)

    monkeypatch.setattr(subprocess.Popen, "__init__", start)
    monkeypatch.setattr(subprocess.Popen, "send_signal", send)
    for name, what in needs.LACKING_ON_WINDOWS.items():
        monkeypatch.setattr(os, name, lacking(what), raising=False)


@pytest.fixture(autouse=needs.UNDER_WINE)
def let_names_have_ports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries of tests listen at ports, which the names of their models then have; Wine can store these."""
    if request.path.name != "test_names_of_windows.py":
        monkeypatch.setattr(Store, "refuses", lambda self, name: "")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ollama-ferry")
    group.addoption("--long", action="store_true", help="run the long forms too: gigabytes, and many rounds by chance")
    group.addoption("--seed", type=int, help="what the long forms are led by; a fresh one is chosen, and printed")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:
        # Chosen before the workers start, who are told the options.
        config.option.seed = random.SystemRandom().randrange(2**32) if config.option.long else 1
    settings.load_profile("ferry" if config.option.long else "same in every run")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if config.option.long:
        terminalreporter.write_line(f"the long forms were led by --seed {config.option.seed}")


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """What chance begins with: the same in every run, or a fresh one with ``--long``."""
    return int(request.config.option.seed)


@pytest.fixture
def long(request: pytest.FixtureRequest) -> bool:
    """Whether a test by chance is to make many rounds."""
    return bool(request.config.option.long)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for: long forms, and where skips are forbidden what can't be installed."""
    real = not NO_SKIP or os.environ.get("OLLAMA_BIN") or shutil.which("ollama")
    left_out = [
        item
        for item in items
        if (item.get_closest_marker("ollama") and not real)
        or (item.get_closest_marker("long") and not config.option.long)
        or (needs.ON_WINDOWS and item.path.name in _SAME_EVERYWHERE and not config.option.long)
        or (item.get_closest_marker("windows") and not os.environ.get("FERRY_WINDOWS"))
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """With skips forbidden, make a failure of one: a tool that CI is meant to have is not there."""
    report = yield
    if NO_SKIP and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and FERRY_NO_SKIP forbids that: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A real sshd whose far side has the commands of this machine."""
    require_tool("sshd", "openssh-server")
    with sshd_serving(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture(scope="session")
def busybox_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A real sshd whose far side has BusyBox and nothing else."""
    require_tool("sshd", "openssh-server")
    busybox = require_tool("busybox")
    folder = tmp_path_factory.mktemp("busybox")
    # Whoever root becomes over there has to get at the commands, too.
    applets = Path(tempfile.mkdtemp(prefix="ferry-busybox-"))
    applets.chmod(0o755)
    subprocess.run([busybox, "--install", "-s", str(applets)], check=True)
    shell = folder / "shell"
    # The login shell of a BusyBox system is its own.
    shell.write_text(f'#!{busybox} sh\nexec {busybox} sh -c "$SSH_ORIGINAL_COMMAND"\n')
    shell.chmod(0o755)
    with sshd_serving(folder / "sshd", path=str(applets), shell=str(shell)) as server:
        yield server
    shutil.rmtree(applets)
