# SPDX-License-Identifier: Apache-2.0
"""The table of faults as docs/faults.md: ``python -m tests.faults.render > docs/faults.md``."""

from __future__ import annotations

from .model import Fault

HEAD = """\
# What goes wrong, and what comes out

Each line is a fault that sensors, drivers, machines or users have been seen to make, and what fastgreen must answer.
The table is made of `tests/faults/`, whose rows are played by `tests/test_faults.py`: what stands here is tested.
`make sanitize-python` plays them with the engine under AddressSanitizer and ThreadSanitizer, `make sanitize` does so
for the parts in C. ThreadSanitizer does not bear the fork of a process with threads: rows of a fork are left out there.

The fakes are real things: a moving powercap tree, a `libnvidia-ml.so.1` that answers by script, files of a folder.
"""

TAIL = """
## Limits

- A counter that wraps twice between two readings cannot be told from one that wrapped once. A rate too low for the
  channel's wrap is refused; after a pause long enough for it (a stopped process, a suspended machine) the upper bound
  is widened by the wraps that fit, and a note says so.
- What a counter counted while it was being reset (driver reload, zone removed and back) is not known: it is left out of
  the estimate, and the bounds hold it up to the channel's power limit.
- A text that is a number is believed: a counter file cut short in the middle of its digits is not told from a counter
  that restarted.
- The estimate is one of the whole machine: in a container, too, `/proc/stat` is the machine's.
- A hung driver is waited for: 30 s when boards are listed (once a program), 15 s at the end of a run. Its thread stays
  until the program ends.
- The wall clock is read once, at the start of a run; a step of it later leaves `time` columns on the old clock.
"""


def _line(name: str, rows: list[Fault]) -> str:
    outcomes = list(dict.fromkeys(_plain(e.words) for row in rows for e in row.expect if e.words))
    if len(outcomes) > 6:
        outcomes = _folded(rows)
    count = f" ({len(rows)} rows)" if len(rows) > 1 else ""
    return f"| {_plain(name)}{count} | {_plain(rows[0].seen)} | {'; '.join(outcomes)} |"


def _folded(rows: list[Fault]) -> list[str]:
    """Of a family whose rows differ in a name or number only: the words of its first row."""
    return [_plain(e.words) for e in rows[0].expect if e.words]


def _plain(text: str) -> str:
    """Words as Markdown; a pattern reads as the sentence it looks for."""
    said = text.replace("\\", "").replace(".*", " … ").replace("^", "").replace("$", "")
    return said.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def document(rows: list[Fault]) -> str:
    families: dict[str, list[Fault]] = {}
    for row in rows:
        families.setdefault(row.family or row.name, []).append(row)
    lines = [_line(name, members) for name, members in families.items()]
    return (
        HEAD + "\n| fault | where it was seen | what must come out |\n|---|---|---|\n" + "\n".join(lines) + "\n" + TAIL
    )


if __name__ == "__main__":
    from .rows import ROWS

    print(document(ROWS), end="")
