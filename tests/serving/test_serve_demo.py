# SPDX-License-Identifier: Apache-2.0
"""The demonstration of a server prints joules that add up."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys

import pytest

from tests.oracles.places import EXAMPLES, ROOT

for package in ("starlette", "uvicorn", "httpx"):
    pytest.importorskip(package, reason=f"{package} is not installed (extra serve)")


def test_it_prints_a_row_for_each_number_at_once_and_the_rule():
    words = [sys.executable, EXAMPLES / "serve.py", "--requests", "40", "--tokens", "6", "--width", "64"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr
    rows = re.findall(
        r"^ +(\d+) +(\S+) +(\S+) \.\. (\S+) +(\S+) +(\S+) J +(\S+) J +(\S+) x it$", done.stdout, re.MULTILINE
    )
    assert [int(row[0]) for row in rows] == [1, 8, 32]
    for _, request, low, high, token, alone, drawn, factor in (map(float, row) for row in rows):
        assert low <= request * 1.01
        assert request <= high * 1.01
        assert token == pytest.approx(request / 6, rel=0.01)
        assert 40 * request + alone == pytest.approx(drawn, rel=0.01)
        assert factor >= 0.9
    assert float(rows[2][7]) > 3, "32 requests at once overlap"
    assert "rule: " in done.stdout


def test_the_batch_holds_no_more_than_its_places_and_gives_each_request_what_it_would_get_alone():
    import asyncio

    import numpy as np

    spec = importlib.util.spec_from_file_location("serve", EXAMPLES / "serve.py")
    serve = importlib.util.module_from_spec(spec)
    sys.modules["serve"] = serve
    spec.loader.exec_module(serve)
    model = serve.Model(16)

    class Span:
        weight = 0.0

    async def answers(prompts, most):
        engine = serve.Engine(model, most)
        task = asyncio.create_task(engine.run())
        sequences = [serve.Sequence(list(p), 5, Span(), np.zeros(16, np.float32)) for p in prompts]
        for one in sequences:
            await engine.waiting.put(one)
        out = [[await one.made.get() for _ in range(5)] for one in sequences]
        task.cancel()
        assert all(one.span.weight == 1.0 for one in sequences)
        return out

    prompts = [b"a", b"bcd", b"ef", b"ghij"]
    together = asyncio.run(answers(prompts, 3))
    assert together == [asyncio.run(answers([p], 1))[0] for p in prompts]
