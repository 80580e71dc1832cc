# SPDX-License-Identifier: Apache-2.0
"""Ends that a signal interrupts at random instants. If the machine stalls, the counter stands still, which is noted."""

from __future__ import annotations

import pytest

from tests.fakes.powercap import Zone

RANDOM_STOPS = """
import collections, random, shutil, signal, statistics, sys, time, warnings
import fastgreen as fg

warnings.simplefilter("ignore")  # windows left open

class Cut(BaseException):
    pass

def strike(*_):
    raise Cut

signal.signal(signal.SIGALRM, strike)
dice = random.Random(int(sys.argv[3]))
seconds = collections.deque([0.002], maxlen=30)
cut, wrong = 0, []
for n in range(int(sys.argv[2])):
    folder = f"{sys.argv[1]}/{n}" if n % 2 else None
    monitor = fg.Monitor("rapl:*", hz=1000, record=folder, settle=n % 50 == 0).start()
    if n % 3 == 0:
        monitor.checkpoint(0.5)
    with monitor.window("whole"):
        pass
    if n % 5 == 0:
        monitor.window("open").begin()
    begun = time.perf_counter()
    delay = dice.uniform(1e-6, 1.3 * statistics.median(seconds))
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        if n % 4:
            monitor.stop()
        else:
            monitor.__exit__(None, None, None)
        signal.setitimer(signal.ITIMER_REAL, 0)
        seconds.append(time.perf_counter() - begun)
    except Cut:
        cut += 1
    begun = time.monotonic()
    try:
        result = monitor.result if n % 2 else monitor.stop()
    except RuntimeError:  # the end had not begun
        result = monitor.stop()
    if time.monotonic() - begun > 5:
        wrong.append((n, "slow"))
    counts = dict(zip(*result.summary().select(["name", "count"]).to_pydict().values()))
    if counts != ({"whole": 1, "open": 1} if n % 5 == 0 else {"whole": 1}):
        wrong.append((n, counts))
    if result.samples().num_rows != result.channels["samples"][0].as_py():
        wrong.append((n, "lost samples"))
    if [note for note in result.notes if "still open" not in note]:
        wrong.append((n, result.notes))
    if folder is not None:
        loaded = fg.load(folder)
        if (loaded.energy_j, loaded.notes) != (result.energy_j, result.notes):
            wrong.append((n, loaded.notes))
        shutil.rmtree(folder)
print(cut, wrong)
"""


@pytest.mark.statistical
def test_stops_interrupted_at_random_instants_all_have_a_result_and_a_closed_recording(powercap, python, tmp_path):
    powercap(Zone("package-0", 90.0))
    count = 2000
    done = python(RANDOM_STOPS, tmp_path, count, 1, timeout=240)
    assert (done.returncode, done.stderr) == (0, "")
    cut, wrong = done.stdout.split(" ", 1)
    assert wrong.strip() == "[]"
    assert int(cut) > count / 4
