# SPDX-License-Identifier: Apache-2.0
"""Windows of one name that overlap: few handles, one union, and a word about it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import fastgreen as fg
from tests.fakes.powercap import Zone

pytestmark = pytest.mark.filterwarnings("ignore::fastgreen.errors.FastgreenWarning")


@pytest.fixture
def zones(powercap):
    powercap(Zone("package-0", 80.0), move=True)


def handles(monitor):
    return len(monitor.window_handles.windows)


def check_union(monitor, name, count):
    result = monitor.result
    row = result.summary().to_pylist()[0]
    assert row["count"] == count
    whole = result.energy_between([result.start_ns], [result.end_ns])[0]
    assert row["energy_j"] > 1.5 * row["union_energy_j"]
    assert row["union_energy_low_j"] <= row["union_energy_j"] <= row["union_energy_high_j"]
    assert row["union_energy_j"] <= float(whole.high_j)
    note = next(n for n in result.notes if f"windows {name!r} overlap" in n)
    assert "Monitor.ledger" in note
    assert "The time in which any was open holds" in note
    assert f"{name} *" in str(result)


def test_fifty_requests_at_once_use_few_handles_and_are_reported(zones):
    async def request():
        with monitor.window("req"):
            await asyncio.sleep(0.004)

    async def serve():
        for _ in range(20):
            await asyncio.gather(*(request() for _ in range(50)))

    with fg.Monitor("rapl:*", hz=500) as monitor:
        asyncio.run(serve())
        assert handles(monitor) <= 60
    check_union(monitor, "req", 1000)


def test_threads_have_a_handle_each(zones):
    def work():
        for _ in range(50):
            with monitor.window("req"):
                time.sleep(0.001)

    with fg.Monitor("rapl:*", hz=500) as monitor:
        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert handles(monitor) <= 8
    check_union(monitor, "req", 400)


def test_a_handle_that_somebody_holds_is_not_given_to_another(zones):
    with fg.Monitor("rapl:*", hz=100) as monitor:
        first, kept = monitor.window("w"), []
        with first:
            for _ in range(5):
                with monitor.window("w") as window:
                    kept.append(window)
        assert len({id(w) for w in kept}) == 5
        del kept, window
        made = handles(monitor)
        for _ in range(20):
            with monitor.window("w"), monitor.window("w"):
                pass
        assert handles(monitor) <= made
        first.begin()  # its holder may go on to use it
        first.end()
    assert len(monitor.result.windows("w")) == 1 + 5 + 40 + 1


def test_windows_one_after_the_other_or_of_two_names_do_not_overlap(zones, tmp_path):
    with fg.Monitor("rapl:*", hz=100) as monitor:
        for _ in range(3):
            with monitor.window("a"), monitor.window("b"):
                time.sleep(0.001)
        assert handles(monitor) == 2
    assert not any("overlap" in note for note in monitor.result.notes)
    assert monitor.result.summary()["union_energy_j"].to_pylist() == [None, None]
    assert " *" not in str(monitor.result)


def test_a_loaded_run_says_the_same(zones, tmp_path):
    with fg.Monitor("rapl:*", hz=100, record=tmp_path / "run") as monitor, monitor.window("w"):
        time.sleep(0.02)
        with monitor.window("w"):
            time.sleep(0.02)
    loaded = fg.load(tmp_path / "run")
    assert loaded.summary().equals(monitor.result.summary())
    assert loaded.notes == monitor.result.notes
    assert any("windows 'w' overlap" in note for note in loaded.notes)
