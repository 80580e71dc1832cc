# SPDX-License-Identifier: Apache-2.0
"""The table of faults as docs/faults.md: ``python -m tests.faults.render > docs/faults.md``."""

from __future__ import annotations

import re

from .model import Fault

HEAD = """\
# Faults, and the answer of fastgreen

Each row is a fault that sensors, drivers, machines or users have shown, and the answer that fastgreen must give. The
rows are in `tests/faults/`, and `tests/test_faults.py` plays them, so each row of the table is tested.
`make sanitize-python` plays them with the engine under AddressSanitizer and ThreadSanitizer, and `make sanitize` runs
the tests of the C parts there. ThreadSanitizer does not support the fork of a process with threads, so it leaves out
the rows with a fork.

The fakes are real things: a powercap tree that moves, a `libnvidia-ml.so.1` that answers by a script, files in a
folder.
"""

TAIL = """
## A fork beside other threads

Python 3.12 and later warn if a program with more than one thread calls `os.fork`: "This process is multi-threaded, use
of fork() may lead to deadlocks in the child". The interpreter counts every thread, also those of fastgreen: one that
empties the rings, and one for each source. For fastgreen the fork is safe: the child's monitor is inactive, holds no
lock of the parent and starts no thread. It may be unsafe for other threads of the program, so fastgreen sets no filter
and leaves the warning to you. To avoid it, fork before `Monitor.start`, or start workers with
`multiprocessing.set_start_method("spawn")`. `multiprocessing` warns in the same way if its method is `fork`.

## Limits

- If a counter wraps twice between two readings, it looks like one wrap. fastgreen refuses a rate that is too low for
  the wrap of the channel. After a pause that is long enough for a second wrap (a stopped process, a suspended machine),
  it adds the possible wraps to the high bound, and a note reports it.
- The energy during the reset of a counter (driver reload, zone removed and back) is not known. The estimate leaves it
  out, and the bounds contain it up to the power limit of the channel.
- A text that is a number is believed. If a counter file is cut in the middle of its digits, it looks like a restart of
  the counter.
- The estimate is for the whole machine. In a container, `/proc/stat` is also that of the machine.
- fastgreen waits for a driver that hangs: 30 s when it lists the boards (once per program), and 15 s at the end of a
  run. The thread of the driver stays until the program ends.
- The wall clock is read once, at the start of a run. If the clock is set later, the `time` columns keep the old clock.
"""


def _line(name: str, rows: list[Fault]) -> str:
    outcomes = list(dict.fromkeys(_plain(e.words) for row in rows for e in row.expect if e.words))
    if len(outcomes) > 6:
        outcomes = _folded(rows)
    count = f" ({len(rows)} rows)" if len(rows) > 1 else ""
    return f"| {_cell(name)}{count} | {_cell(rows[0].seen)} | {'; '.join(outcomes)} |"


def _folded(rows: list[Fault]) -> list[str]:
    """The words of the first row, for a family with rows that differ only in a name or number."""
    return [_plain(e.words) for e in rows[0].expect if e.words]


def _plain(text: str) -> str:
    """Words as Markdown; a pattern reads as the sentence it looks for."""
    return _cell(text.replace("\\", "").replace(".*", " … ").replace("^", "").replace("$", ""))


def _cell(text: str) -> str:
    """Text as a cell of a Markdown table."""
    text = re.sub(r'\s+"$', '"', " ".join(text.split()))
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def document(rows: list[Fault]) -> str:
    families: dict[str, list[Fault]] = {}
    for row in rows:
        families.setdefault(row.family or row.name, []).append(row)
    lines = [_line(name, members) for name, members in families.items()]
    return HEAD + "\n| fault | seen in | answer |\n|---|---|---|\n" + "\n".join(lines) + "\n" + TAIL


if __name__ == "__main__":
    from .rows import ROWS

    print(document(ROWS), end="")
