"""The limit on bytes a second, with a clock that only the test moves."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_ferry.engine.events import Cancel
from ollama_ferry.engine.rate import RateLimit, Slowed
from ollama_ferry.errors import Cancelled


class Time:
    """A clock that goes on by what is slept, and by as much more as every sleep takes too long."""

    def __init__(self, oversleep: float = 0.0) -> None:
        self.now = 1000.0
        self.oversleep = oversleep
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds + self.oversleep

    def limit(self, rate: int) -> RateLimit:
        return RateLimit(rate, self.clock, self.sleep)


def moved(clock: Time, limit: RateLimit, total: int, reading: float = 0.0) -> float:
    """Move bytes, each chunk read in so many seconds; return the seconds that all took."""
    began = clock.now
    while total:
        count = limit.chunk(total)
        clock.now += reading
        limit.wait(count)
        total -= count
    return clock.now - began


@pytest.mark.parametrize(("oversleep", "reading"), [(0.0, 0.0), (0.06, 0.0), (0.0, 0.1), (0.05, 0.05)])
def test_rate_is_met_though_sleeps_and_reads_take_their_time(oversleep: float, reading: float) -> None:
    clock = Time(oversleep)
    took = moved(clock, clock.limit(100_000_000), 10**9, reading)
    assert 10 - 0.25 <= took <= 10 + 0.25


def test_pause_is_made_up_for_a_quarter_of_a_second_only() -> None:
    clock = Time()
    limit = clock.limit(1_000_000)
    moved(clock, limit, 1_000_000)
    clock.now += 60
    assert moved(clock, limit, 1_000_000) == pytest.approx(0.75)


def test_first_bytes_come_no_faster() -> None:
    clock = Time()
    assert moved(clock, clock.limit(1_000_000), 1_000_000) == pytest.approx(1.0)


@given(
    st.lists(st.tuples(st.floats(0, 3), st.integers(1, 3_000_000)), min_size=1, max_size=40),
    st.integers(1, 5_000_000),
    st.floats(0, 0.5),
)
def test_never_faster_than_the_rate_and_a_quarter_of_a_second(
    steps: list[tuple[float, int]], rate: int, oversleep: float
) -> None:
    clock = Time(oversleep)
    limit = clock.limit(rate)
    events = [(clock.now, 0)]
    for pause, count in steps:
        clock.now += pause
        began = clock.now
        limit.wait(count)
        events.append((began, count))
        assert all(0 < nap <= 0.2 for nap in clock.slept)
        # Of any time up to now: what moved in it is within the rate, and the credit.
        total = 0
        for moment, moved_then in reversed(events):
            total += moved_then
            assert total <= rate * (clock.now - moment + 0.2501) + 1


def test_cancel_ends_a_wait() -> None:
    clock = Time()
    limit, cancel = clock.limit(1000), Cancel()
    cancel.set()
    with pytest.raises(Cancelled):
        limit.wait(10_000, cancel)


def test_no_limit_waits_for_nothing() -> None:
    clock = Time()
    limit = clock.limit(0)
    limit.wait(10**12)
    assert limit.chunk(10**9) == 10**9 and not clock.slept


def test_threads_share_it() -> None:
    limit = RateLimit(4_000_000)

    def move() -> None:
        for _ in range(5):
            limit.wait(100_000)

    threads = [threading.Thread(target=move) for _ in range(4)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Half a second, of which a quarter may be made up for: no faster, however slow the machine.
    assert time.monotonic() - began > 0.2


def test_what_is_sent_is_handed_out_in_pieces() -> None:
    clock = Time()
    slowed = Slowed(b"x" * 100_000, clock.limit(80_000), Cancel())
    pieces = list(iter(slowed.read, b""))
    assert b"".join(pieces) == b"x" * 100_000 and max(map(len, pieces)) == 10_000
    assert clock.now - 1000 == pytest.approx(1.25)
