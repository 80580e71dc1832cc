# SPDX-License-Identifier: Apache-2.0
"""Runs one case of one tool, in the tool's own environment: standard library, the adapter, and nothing else.

``worker.py ADAPTER CASE`` speaks JSON lines with the benchmark: its answers on the descriptor that was stdout (what the
tool prints goes to stderr), the benchmark's on stdin. The names of the cases are those of `CASES`.
"""

import importlib.util
import json
import os
import sys
import time

MOST_WINDOWS = 50_000
WINDOW_BUDGET_S = 1.5
BLOCK_S = 1e-3


def window_case(adapter, talk, options):
    """Blocks of empty windows: seconds per window in each, and what working them out afterwards took.

    A first session of one window comes before, so that what a tool does once is not counted, and reported apart.
    """
    blocks, counts = [], []
    ended = [0.0]

    def once(loop):
        loop(1)
        ended[0] = time.perf_counter()

    adapter.windows(once)
    first_s = time.perf_counter() - ended[0]

    def run(loop):
        start = time.perf_counter()
        loop(1)
        count, spent = 1, time.perf_counter() - start
        while spent < BLOCK_S and count < 4096:
            count *= 2
            start = time.perf_counter()
            loop(count)
            spent = time.perf_counter() - start
        begun = time.perf_counter()
        while len(blocks) < 3 or (time.perf_counter() - begun < WINDOW_BUDGET_S and sum(counts) < MOST_WINDOWS):
            start = time.perf_counter()
            loop(count)
            blocks.append((time.perf_counter() - start) / count)
            counts.append(count)
        ended[0] = time.perf_counter()
        talk({"windows": 2 * count - 1 + sum(counts)})

    adapter.windows(run)
    talk({"blocks_s": blocks, "count": counts[0], "after_s": time.perf_counter() - ended[0], "first_s": first_s})


def until(end_ns):
    """Work that ends at a given moment, and its edges once it has run."""
    edges = {}

    def work():
        edges["begin_ns"] = time.monotonic_ns()
        while (rest := end_ns - time.monotonic_ns()) > 0:
            time.sleep(rest * 1e-9)
        edges["end_ns"] = time.monotonic_ns()

    return work, edges


def event_case(adapter, talk, options):
    """One window that ends at a given moment; the benchmark knows what happened in it."""
    work, edges = until(options["end_ns"])
    energy = adapter.measured(work)
    talk(edges | {"energy_j": energy})


def overlap_case(adapter, talk, options):
    """Requests that are all open during the same work: the energy of each."""
    work, edges = until(options["end_ns"])
    energies = adapter.overlapping(work, options["count"])
    talk(edges | {"energies_j": energies})


def rank_case(adapter, talk, options):
    """One rank of a job: it records, if the tool can merge ranks, or measures for itself."""
    work, edges = until(options["end_ns"])
    if hasattr(adapter, "rank"):
        adapter.rank(work, options["folder"])
        talk(edges | {"energy_j": None})
    else:
        talk({"energy_j": adapter.measured(work)} | edges)


def job_case(adapter, talk, options):
    """The energy of all ranks between two moments, as the tool merges them."""
    talk({"energy_j": adapter.job(options["folder"], options["begin_ns"], options["end_ns"])})


def page_case(adapter, talk, options):
    """Seconds to write the page of a run of 1000 windows, and its size."""
    write = adapter.page(options["windows"])
    spent = []
    for _ in range(5):
        start = time.perf_counter()
        size = write()
        spent.append(time.perf_counter() - start)
    talk({"pages_s": spent, "bytes": size})


def sampling_case(adapter, talk, options):
    """Lets the tool's sampler run while the main thread sleeps or computes; what the adapter returns is said last."""

    def run():
        time.sleep(options["settle_s"])
        talk({"state": "sampling"})
        if options["busy"]:
            work, end = 0, time.monotonic() + options["seconds"]
            while time.monotonic() < end:
                for i in range(1000):
                    work += i * i
        else:
            time.sleep(options["seconds"])
        talk({"state": "sampled"})
        sys.stdin.readline()

    return adapter.sampling(options["period_s"], run)


def reading_case(adapter, talk, options):
    """CPU seconds of one read, for a tool that has no sampler."""
    read, costs = adapter.reader(), []
    for _ in range(options["blocks"]):
        start = time.process_time()
        for _ in range(options["count"]):
            read()
        costs.append((time.process_time() - start) / options["count"])
    talk({"reads_s": costs})


CASES = {
    "window": window_case,
    "event": event_case,
    "sampling": sampling_case,
    "reading": reading_case,
    "overlap": overlap_case,
    "rank": rank_case,
    "job": job_case,
    "page": page_case,
}


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def talk(message):
        answers.write(json.dumps(message, default=float) + "\n")
        answers.flush()

    spec = importlib.util.spec_from_file_location("adapter", sys.argv[1])
    adapter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(adapter)
    talk(
        {
            "state": "imported",
            "adapter": {k: v for k, v in vars(adapter).items() if k.startswith("NO_")},
            "deferred": getattr(adapter, "DEFERRED", False),
            "fastest_s": getattr(adapter, "FASTEST_S", None),
            "page": hasattr(adapter, "page"),
        }
    )
    options = json.loads(sys.stdin.readline())
    talk({"state": "done", "said": CASES[sys.argv[2]](adapter, talk, options)})


if __name__ == "__main__":
    main()
