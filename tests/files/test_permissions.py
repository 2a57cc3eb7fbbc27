"""Who may do what to a file, reckoned for any user."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from ollama_ferry.files.permissions import PASS, READ, WRITE, User, impassable


@pytest.mark.parametrize(
    ("mode", "uid", "gid", "wanted", "allowed"),
    [
        (0o700, 7, 1, PASS, True),
        (0o077, 7, 1, PASS, False),
        (0o010, 1, 8, PASS, True),
        (0o707, 1, 8, PASS, False),
        (0o001, 1, 1, PASS, True),
        (0o750, 1, 1, PASS, False),
        (0o755, 1, 1, READ | PASS, True),
        (0o755, 1, 1, READ | WRITE, False),
    ],
)
def test_mode_bits(mode: int, uid: int, gid: int, wanted: int, allowed: bool) -> None:
    user = User("x", 7, frozenset({8, 9}), "x")
    assert user.may(state(mode, uid, gid), wanted) is allowed
    assert User("root", 0, frozenset(), "root").may(state(mode, uid, gid), wanted)


@pytest.mark.parametrize(
    ("entries", "allowed"),
    [
        ([(2, 1, 7)], True),
        ([(2, 0, 7), (32, 1, 0)], False),
        ([(2, 1, 7), (16, 4, 0)], False),
        ([(8, 1, 9)], True),
        ([(8, 4, 9), (32, 1, 0)], False),
        ([(2, 1, 6), (32, 0, 0)], False),
        ([(2, 0, 6), (32, 1, 0)], True),
    ],
)
def test_access_list(entries: list[tuple[int, int, int]], allowed: bool) -> None:
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    user = User("x", 7, frozenset({8, 9}), "x")
    assert user.may(state(0o750, 1, 1), PASS, acl) is allowed
    # What can't be read counts as not there.
    assert not user.may(state(0o750, 1, 1), PASS, b"\x02")


def state(mode: int, uid: int, gid: int) -> os.stat_result:
    return os.stat_result((0o040000 | mode, 0, 0, 1, uid, gid, 0, 0, 0, 0))


def test_parents_behind_a_link_count(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    (closed / "models").mkdir(parents=True)
    closed.chmod(0o700)
    (tmp_path / "link").symlink_to(closed / "models")
    assert closed in impassable(tmp_path / "link", User("x", 54321, frozenset(), "x"))
