# SPDX-License-Identifier: Apache-2.0
"""vLLM is not here: its documented objects, made by hand, become tables and lines of a log."""

from __future__ import annotations

import abc
import logging
import sys
import time
import tomllib
import types
from types import SimpleNamespace

import pytest

import fastgreen as fg
from fastgreen.serving import vllm
from fastgreen.serving.vllm import EnergyLog, request_table
from tests.oracles.places import ROOT


def output(name, instants, prompt=4, tokens=3):
    names = ("queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts")
    metrics = SimpleNamespace(arrival_time=1.7e9, **dict(zip(names, instants, strict=True)))
    made = [SimpleNamespace(token_ids=list(range(tokens)))]
    return SimpleNamespace(request_id=name, prompt_token_ids=list(range(prompt)), outputs=made, metrics=metrics)


def test_finished_requests_are_charged_from_scheduling_to_the_last_token():
    with fg.Monitor() as monitor:
        a = time.monotonic()
        time.sleep(0.2)
        b = time.monotonic()
    third = (b - a) / 3
    outputs = [output("x", (a, a, a + third, b)), output("y", (a, a + third, a + 2 * third, b))]
    table = monitor.result.share(request_table(outputs))
    assert table["tokens"].to_pylist() == [3, 3]
    x, y = table["energy_j"].to_pylist()
    assert x > y > 0
    phases = monitor.result.share(request_table(outputs, by="phase"))
    assert phases["phase"].to_pylist() == ["prefill", "decode"] * 2
    assert sum(phases["energy_j"].to_pylist()) == pytest.approx(x + y, rel=1e-9)
    assert table["queued_s"].to_pylist() == pytest.approx([0, third], abs=1e-6)


def test_an_instant_that_did_not_come_is_unknown():
    row = request_table([output("x", (1.0, 0.0, 0.0, 0.0))]).to_pylist()[0]
    assert (row["begin_ns"], row["end_ns"], row["queued_s"]) == (None, None, None)


def test_outputs_without_metrics_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match="disable_log_stats=False"):
        request_table([SimpleNamespace(metrics=None)])
    with pytest.raises(ValueError, match="by must be"):
        request_table([], by="token")


def stats(tokens, prompt=0, finished=0):
    return SimpleNamespace(num_generation_tokens=tokens, num_prompt_tokens=prompt, finished_requests=[None] * finished)


def test_the_log_has_joules_per_token_and_request(caplog):
    caplog.set_level(logging.INFO, "fastgreen.vllm")
    with fg.Monitor() as monitor:
        log = EnergyLog(monitor, interval_s=0.5)
        for _ in range(4):
            log.record(stats(2, 5, 1))
        time.sleep(0.5)
        log.record(None)
    assert "J per token (8), " in caplog.text
    assert "J per finished request (4); 20 prompt tokens" in caplog.text
    assert log.tokens == 0


class StatLoggerBase(abc.ABC):
    """The interface of vllm/v1/metrics/loggers.py, version 0.33."""

    @abc.abstractmethod
    def __init__(self, vllm_config, engine_index=0): ...

    @abc.abstractmethod
    def record(self, scheduler_stats, iteration_stats, mm_cache_stats=None, engine_idx=0): ...

    @abc.abstractmethod
    def log_engine_initialized(self): ...


@pytest.fixture
def logger_class(monkeypatch):
    module = types.ModuleType("vllm.v1.metrics.loggers")
    module.StatLoggerBase = StatLoggerBase
    for name in ("vllm", "vllm.v1", "vllm.v1.metrics"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, "vllm.v1.metrics.loggers", module)
    yield vllm.EnergyStatLogger
    del vars(vllm)["EnergyStatLogger"]


def test_the_class_of_the_entry_point_logs_where_it_is_asked_to(logger_class, monkeypatch, caplog):
    assert issubclass(logger_class, StatLoggerBase)
    caplog.set_level(logging.INFO, "fastgreen.vllm")
    for seconds, index, lines in ((None, 0, 0), ("0.01", 1, 0), ("0.01", 0, 1)):
        monkeypatch.delenv("FASTGREEN_VLLM_SECONDS", raising=False)
        if seconds is not None:
            monkeypatch.setenv("FASTGREEN_VLLM_SECONDS", seconds)
        made = logger_class(None, engine_index=index)
        made.log_engine_initialized()
        time.sleep(0.02)
        made.record(None, stats(1), mm_cache_stats=None, engine_idx=index)
        made.log()
        assert len(caplog.records) == lines
    made._log.monitor.stop()


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "inf", "often"])
def test_a_wrong_interval_is_refused(logger_class, monkeypatch, seconds):
    monkeypatch.setenv("FASTGREEN_VLLM_SECONDS", seconds)
    with pytest.raises(ValueError, match="FASTGREEN_VLLM_SECONDS must be a number of seconds"):
        logger_class(None)


def test_the_entry_point_of_the_package_names_the_class():
    points = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    assert points["vllm.stat_logger_plugins"] == {"fastgreen": "fastgreen.serving.vllm:EnergyStatLogger"}


def test_without_vllm_the_class_says_so():
    with pytest.raises(ImportError, match="vllm"):
        vllm.EnergyStatLogger  # noqa: B018
    with pytest.raises(AttributeError):
        vllm.something  # noqa: B018
