# SPDX-License-Identifier: Apache-2.0
"""Runs unmodified programs that find the fake NVML under its usual name."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from .nvml import FakeNvml


def run_pynvml(fake: FakeNvml, body: str, **environment: str) -> dict[str, Any]:
    """Runs `body` in a fresh Python: `n` is pynvml, `time` is there, and `say` is a dict that comes back as JSON."""
    program = f"import json, time, pynvml as n\nsay = {{}}\n{body}\nprint(json.dumps(say, default=lambda c: c.value))"
    env = fake.env() | environment
    done = subprocess.run([sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=240)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])
