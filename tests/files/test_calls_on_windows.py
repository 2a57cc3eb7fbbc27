"""The calls that Windows does in another way, on Windows itself."""

from __future__ import annotations

import os
import subprocess
import sys
import winreg
from pathlib import Path

import pytest

from ollama_ferry.files.disk import Disk
from ollama_ferry.files.folder import Folder
from ollama_ferry.files.lock import FileLock
from ollama_ferry.ollama.candidates import this_system


def test_an_open_file_is_renamed_replaced_and_removed(tmp_path: Path) -> None:
    disk = Disk()
    with Folder(str(tmp_path)) as folder:
        one = disk.create(folder, "one")
        os.close(disk.create(folder, "other"))
        os.write(one, b"one")
        disk.replace(folder, "one", folder, "other")
        os.lseek(one, 0, os.SEEK_SET)
        assert os.read(one, 9) == b"one" and (tmp_path / "other").read_bytes() == b"one"
        disk.remove(folder, "other")
        os.close(one)
        assert not {"one", "other"} & set(disk.names(folder))


def test_errors_are_those_of_the_system(tmp_path: Path) -> None:
    disk = Disk()
    with Folder(str(tmp_path)) as folder:
        with pytest.raises(FileNotFoundError) as caught:
            disk.open(folder, "none")
        assert caught.value.filename == str(tmp_path / "none")
        os.close(disk.create(folder, "there"))
        with pytest.raises(FileExistsError):
            disk.create(folder, "there")
        with pytest.raises(FileNotFoundError):
            disk.replace(folder, "none", folder, "there")


def test_paths_of_more_than_260_characters(tmp_path: Path) -> None:
    disk = Disk()
    above = Folder(str(tmp_path))
    for _ in range(3):
        disk.make_folder(above, "x" * 120)
        above = disk.open_folder("x" * 120, above)
    assert len(above.path) > 360
    os.close(disk.create(above, "file"))
    disk.replace(above, "file", above, "y" * 200)
    found = disk.status(above, "y" * 200)
    assert found is not None and disk.names(above) == ["y" * 200]


def test_a_lock_keeps_others_out_and_no_reader(tmp_path: Path) -> None:
    disk = Disk()
    with Folder(str(tmp_path)) as folder:
        held = FileLock.take(disk, folder, "lock")
        assert held is not None
        os.write(held.fd, b"who has it")
        assert (tmp_path / "lock").read_bytes() == b"who has it"
        assert FileLock.take(disk, folder, "lock") is None
        script = "import sys\nfrom ollama_ferry.files.disk import Disk\nfrom ollama_ferry.files.folder import Folder\n"
        script += "from ollama_ferry.files.lock import FileLock\n"
        script += "sys.exit(FileLock.take(Disk(), Folder(sys.argv[1]), 'lock') is None)"
        assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 1
        held.close()
        assert subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False).returncode == 0


def test_what_another_program_holds_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"new")
    (tmp_path / "scanned").write_bytes(b"old")
    # As a scanner of viruses opens it: nobody may rename or remove it meanwhile.
    script = "import sys, time\nwith open(sys.argv[1]): print('open', flush=True); time.sleep(0.5)"
    with (
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "scanned")], stdout=subprocess.PIPE) as scanner,
        Folder(str(tmp_path)) as folder,
    ):
        assert scanner.stdout is not None and scanner.stdout.readline().strip() == b"open"
        Disk().replace(folder, "new", folder, "scanned")
    assert (tmp_path / "scanned").read_bytes() == b"new"


def test_models_folder_that_only_the_registry_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with winreg.CreateKey(winreg.HKEY_CURRENT_USER, "Environment") as key:  # type: ignore[attr-defined,unused-ignore]
        winreg.SetValueEx(key, "OLLAMA_MODELS", 0, winreg.REG_EXPAND_SZ, r"%FERRY%\\models")  # type: ignore[attr-defined,unused-ignore]
        try:
            monkeypatch.setenv("FERRY", r"D:\\big")
            assert this_system().environ["OLLAMA_MODELS"] == r"D:\\big\\models"
            monkeypatch.setenv("OLLAMA_MODELS", "E:/now")
            assert this_system().environ["OLLAMA_MODELS"] == "E:/now"
        finally:
            winreg.DeleteValue(key, "OLLAMA_MODELS")  # type: ignore[attr-defined,unused-ignore]
