"""What Windows does in another way: the rules, which run on every system."""

from __future__ import annotations

import errno

import pytest

from ollama_ferry.files.windows import extended, patiently

LONG = "x" * 200


@pytest.mark.parametrize(
    ("path", "call"),
    [
        (r"C:\models", r"C:\models"),
        (r"models\blobs", r"models\blobs"),
        (rf"C:\{LONG}\blobs/x.{LONG}", rf"\\?\C:\{LONG}\blobs\x.{LONG}"),
        (rf"C:\a\..\{LONG}\.\{LONG}", rf"\\?\C:\{LONG}\{LONG}"),
        (rf"\\server\share\{LONG}\{LONG}", rf"\\?\UNC\server\share\{LONG}\{LONG}"),
        (rf"{LONG}\{LONG}", rf"\\?\D:\here\{LONG}\{LONG}"),
        (rf"..\{LONG}\{LONG}", rf"\\?\D:\{LONG}\{LONG}"),
        (rf"\\?\C:\{LONG}\{LONG}", rf"\\?\C:\{LONG}\{LONG}"),
        (rf"\\.\pipe\{LONG}{LONG}", rf"\\.\pipe\{LONG}{LONG}"),
        # Of 247 characters all calls still take it, folders among them.
        ("C:\\" + "x" * 244, "C:\\" + "x" * 244),
        ("C:\\" + "x" * 245, "\\\\?\\C:\\" + "x" * 245),
    ],
)
def test_long_paths_get_the_beginning_that_lifts_the_limit(path: str, call: str) -> None:
    """Microsoft, "Maximum Path Length Limitation"."""
    assert extended(path, current=lambda: r"D:\here") == call


class _Locked:
    """Fails as Windows does, so many times."""

    def __init__(self, times: int, winerror: int) -> None:
        self.left = times
        self.winerror = winerror
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if not self.left:
            return "done"
        self.left -= 1
        error = OSError(errno.EACCES, "another program has it")
        error.winerror = self.winerror  # type: ignore[attr-defined,unused-ignore]
        raise error


@pytest.mark.parametrize("winerror", [5, 32, 33])
def test_what_another_program_has_is_tried_again_and_not_for_ever(winerror: int) -> None:
    waited: list[float] = []
    assert patiently(_Locked(6, winerror), pause=waited.append) == "done"
    assert len(waited) == 6 and waited == sorted(waited)
    call = _Locked(10_000, winerror)
    waited.clear()
    with pytest.raises(OSError):
        patiently(call, pause=waited.append)
    assert call.calls == len(waited) + 1 and 2 <= sum(waited) < 3


def test_what_waiting_does_not_mend_is_said_at_once() -> None:
    call = _Locked(1, 112)  # the disk is full
    with pytest.raises(OSError):
        patiently(call, pause=lambda seconds: pytest.fail("it waited"))
    assert call.calls == 1
