"""Small things that a newcomer meets on the first day."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import types

import pytest

import fastgreen as fg
from tests.fakes.powercap import Zone
from tests.oracles.places import ROOT


@pytest.fixture(autouse=True)
def tree(powercap):
    return powercap(Zone("package-0", 60.0), move=True)


def test_a_printed_measurement_shows_its_numbers():
    with fg.measure() as m:
        assert "has not ended" in str(m)
        sum(range(10_000))
    assert str(m) == str(m.result)
    assert "rapl:package-0" in str(m)
    assert repr(m) == repr(m.result)
    assert m._repr_html_() == m.result._repr_html_()


def test_run_reports_where_it_saved(tmp_path):
    command = [sys.executable, "-m", "fastgreen", "run", "-o", "kept", "--", "true"]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.stderr.splitlines()[-1] == "saved in kept; `fastgreen report` shows it again"
    assert fg.load(tmp_path / "kept").known


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_monitor_and_a_window_that_are_pickled_answer_with_a_sentence(take):
    with fg.Monitor() as monitor:
        window = monitor.window("step")
        with pytest.raises(TypeError, match=r"a monitor cannot be pickled or copied: .* take its result"):
            take(monitor)
        with pytest.raises(TypeError, match="window 'step' cannot be pickled or copied: it belongs to a monitor"):
            take(window)


def test_a_sync_for_a_device_that_torch_does_not_see_is_refused_at_once():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_available():
        pytest.skip("this torch sees a GPU")
    with pytest.raises(ValueError, match=r"sync must be .*, not torch\.cuda\.synchronize: this torch sees no device"):
        fg.Monitor(sync=torch.cuda.synchronize)


def test_a_sync_for_a_device_that_is_there_is_taken(monkeypatch):
    module = types.ModuleType("torch.fast")
    exec("def is_available(): return True\ndef synchronize(): pass", vars(module))
    monkeypatch.setitem(sys.modules, "torch.fast", module)
    module.synchronize.__module__ = "torch.fast"
    with fg.Monitor(sync=module.synchronize) as monitor, monitor.window("step"):
        pass
    assert monitor.result.names == ["step"]
