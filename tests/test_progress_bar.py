# SPDX-License-Identifier: Apache-2.0
"""Bars of long jobs: on a terminal they move, elsewhere nothing is printed. Notebooks: see test_notebook.py."""

from __future__ import annotations

import contextlib
import os
import pty
import subprocess
import sys

import pytest

JOB = """
import time
from fastgreen.progress_bar import progress_bar
with progress_bar("job", {total}) as advance:
    for n in range(3):
        time.sleep(0.02)
        advance(1, "[b]part %d" % n)
"""


@pytest.mark.parametrize("total", [3, None])
def test_a_terminal_shows_a_bar_and_a_file_stays_empty(total):
    text = JOB.format(total=total)
    leader, follower = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process, shown = subprocess.Popen([sys.executable, "-c", text], stderr=follower, env=env), b""
    os.close(follower)
    with contextlib.suppress(OSError):
        while chunk := os.read(leader, 1 << 16):
            shown += chunk
    os.close(leader)
    assert process.wait(60) == 0
    assert b"job: [b]part 2" in shown
    assert (b"100 %" in shown) == (total is not None)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
