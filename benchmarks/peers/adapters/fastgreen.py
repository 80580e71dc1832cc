# SPDX-License-Identifier: Apache-2.0
"""fastgreen: a monitor round the program, a handle for the windows, energies after it has stopped."""

import os
import time

import fastgreen as fg

DEFERRED = True  # energies are worked out after the run: that time counts as a share of each window


def windows(run):
    with fg.Monitor() as monitor:
        window = monitor.window("empty")

        def loop(count):
            for _ in range(count):
                with window:
                    pass

        run(loop)
    monitor.result.windows("empty")


def measured(function):
    with fg.Monitor() as monitor:
        window = monitor.window("work")
        with window:
            function()
    table = monitor.result.windows("work", per_channel=True)
    row = next(row for row in table.to_pylist() if row["channel"] == "rapl:package-0")
    return {"cpu": row["energy_j"], "low": row["energy_low_j"], "high": row["energy_high_j"]}


def overlapping(function, count):
    with fg.Monitor("rapl:*") as monitor:
        ledger = monitor.ledger("requests")
        spans = [ledger.open(number) for number in range(count)]
        function()
        for span in spans:
            span.close()
    return monitor.result.spans("requests")["energy_j"].to_pylist()


def rank(function, folder):
    with fg.Monitor("rapl:*", record=folder):
        function()


def job(folder, begin_ns, end_ns):
    return float(fg.load(folder).energy_between([begin_ns], [end_ns]).energy_j[0])


def page(windows):
    with fg.Monitor("rapl:*") as monitor:
        window = monitor.window("work")
        for _ in range(windows):
            with window:
                time.sleep(0.001)

    def write():
        fg.to_html(monitor.result, "page.html")
        return os.path.getsize("page.html")

    return write


def sampling(period_s, run):
    with fg.Monitor(hz=1 / period_s) as monitor:
        run()
    samples = monitor.result.channels["samples"].to_pylist()
    return min(samples) / max(samples)  # each source has a thread of its own: a round is as slow as the slowest
