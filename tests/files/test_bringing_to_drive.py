"""A file counts as safe when its drive says so: macOS has a call of its own for that."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ollama_ferry.files.disk import bring_to_drive


def failing(number: int) -> Callable[[int], None]:
    def fail(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    return fail


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The descriptors that fsync() was called with."""
    calls: list[int] = []
    monkeypatch.setattr(os, "fsync", calls.append)
    return calls


def test_the_call_of_macos_is_enough(synced: list[int]) -> None:
    drained: list[int] = []
    bring_to_drive(7, drained.append)
    assert drained == [7] and synced == []


@pytest.mark.parametrize("number", [errno.ENOTSUP, errno.ENOTTY, errno.EINVAL])
def test_a_file_system_that_does_not_know_it_is_synced_as_elsewhere(synced: list[int], number: int) -> None:
    """As SMB, NFS and FUSE are, which the manual page does not list."""
    bring_to_drive(7, failing(number))
    assert synced == [7]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.EDQUOT])
def test_a_drive_that_fails_is_not_asked_again_in_another_way(synced: list[int], number: int) -> None:
    """A second call may say that all is well, for the error has been told."""
    with pytest.raises(OSError) as raised:
        bring_to_drive(7, failing(number))
    assert raised.value.errno == number and synced == []


def test_without_it_fsync_is_called(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        bring_to_drive(file.fileno(), None)
