# SPDX-License-Identifier: Apache-2.0
"""vLLM: energy of finished requests, and a logger of J per token.

The table uses the fields of vLLM's ``RequestOutput.metrics`` (vllm/v1/metrics/stats.py, as of 0.33), whose ``*_ts`` are
seconds of CLOCK_MONOTONIC of the machine of the engine. vLLM makes them only with ``disable_log_stats=False``. The
logger is a ``StatLoggerBase`` (vllm/v1/metrics/loggers.py), which the package registers under the entry point
``vllm.stat_logger_plugins``. It is idle unless ``FASTGREEN_VLLM_SECONDS`` holds the seconds between two lines.
"""

from __future__ import annotations

import logging
import math
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

__all__ = ["EnergyLog", "request_table"]

_INTERVAL_S = 10.0
_ENVIRONMENT = "FASTGREEN_VLLM_SECONDS"
_INSTANTS = ("queued_ts", "scheduled_ts", "first_token_ts", "last_token_ts")


def request_table(outputs: Iterable[Any], by: str | None = None) -> pa.Table:
    """Finished requests of vLLM as a table for `fastgreen.Result.share`.

    Parameters
    ----------
    outputs : iterable of RequestOutput
        As ``LLM.generate`` returns them; of a stream, the last output of each request.
    by : "phase", optional
        Two rows per request: "prefill" (from its scheduling to its first token) and "decode".

    Returns
    -------
    pyarrow.Table
        ``id``, ``phase`` (with ``by="phase"``), ``begin_ns`` and ``end_ns`` (CLOCK_MONOTONIC), ``queued_s`` (s),
        ``prompt_tokens`` and ``tokens``. A request is charged from its scheduling to its last token: it computes
        nothing while it waits. Instants are null where vLLM did not give them.

    Raises
    ------
    ValueError
        For an unknown `by`, or outputs without metrics.

    Examples
    --------
    ::

        outputs = llm.generate(prompts)  # LLM(..., disable_log_stats=False)
        joules = result.share(request_table(outputs))
    """
    import pyarrow as pa

    if by not in (None, "phase"):
        raise ValueError(f'by must be None or "phase", not {by!r}')
    rows = [row for output in outputs for row in _rows(output, by)]
    kinds = {"id": pa.string(), "phase": pa.string(), "begin_ns": pa.int64(), "end_ns": pa.int64()}
    kinds |= {"queued_s": pa.float64(), "prompt_tokens": pa.int64(), "tokens": pa.int64()}
    if by is None:
        del kinds["phase"]
    return pa.Table.from_pylist(rows, schema=pa.schema(kinds))


def _rows(output: Any, by: str | None) -> list[dict[str, Any]]:
    metrics = getattr(output, "metrics", None)
    if metrics is None or not hasattr(metrics, "scheduled_ts"):
        raise ValueError(
            f"outputs must have metrics with scheduled_ts: give vLLM disable_log_stats=False, not metrics={metrics!r}"
        )
    queued, scheduled, first, last = (_instant_ns(getattr(metrics, name, None)) for name in _INSTANTS)
    prompt = output.prompt_token_ids
    both = {
        "id": str(output.request_id),
        "queued_s": None if queued is None or scheduled is None else (scheduled - queued) / 1e9,
    }
    prompt_tokens = None if prompt is None else len(prompt)
    tokens = sum(len(one.token_ids) for one in output.outputs)
    if by is None:
        return [{**both, "begin_ns": scheduled, "end_ns": last, "prompt_tokens": prompt_tokens, "tokens": tokens}]
    prefill = {"phase": "prefill", "begin_ns": scheduled, "end_ns": first, "prompt_tokens": prompt_tokens, "tokens": 0}
    decode = {"phase": "decode", "begin_ns": first, "end_ns": last, "prompt_tokens": 0, "tokens": tokens}
    return [{**both, **prefill}, {**both, **decode}]


def _instant_ns(seconds: Any) -> int | None:
    """0 is what vLLM has for an instant that did not come."""
    return round(seconds * 1e9) if isinstance(seconds, (int, float)) and 0 < seconds < 9e9 else None


class EnergyLog:
    """Energy and tokens of an engine since the last line of the log.

    Parameters
    ----------
    monitor : Monitor, optional
        One that runs; by default one is made and started.
    interval_s : float
        Seconds between two lines.
    """

    def __init__(self, monitor: Any = None, interval_s: float = _INTERVAL_S) -> None:
        if monitor is None:
            import fastgreen

            monitor = fastgreen.Monitor().start()
        self.monitor, self.interval_s = monitor, interval_s
        self.tokens = self.prompt_tokens = self.finished = 0
        self._began_s, self._energy_j = time.monotonic(), self._total_j()
        self.lines = logging.getLogger("fastgreen.vllm")

    def _total_j(self) -> float:
        return sum(self.monitor.energy_j().values())

    def record(self, iteration_stats: Any) -> None:
        """Take the statistics of one step of the engine; write a line if one is due."""
        if iteration_stats is not None:
            self.tokens += int(iteration_stats.num_generation_tokens)
            self.prompt_tokens += int(iteration_stats.num_prompt_tokens)
            self.finished += len(iteration_stats.finished_requests)
        if time.monotonic() - self._began_s >= self.interval_s:
            self.write()

    def write(self) -> None:
        """Write a line: energy of the machine per token. It is not shared among requests."""
        energy_j, now_s = self._total_j(), time.monotonic()
        used_j, length_s = energy_j - self._energy_j, now_s - self._began_s
        parts = [f"{used_j:.6g} J in {length_s:.3g} s"]
        for count, noun in ((self.tokens, "token"), (self.finished, "finished request")):
            if count:
                parts.append(f"{used_j / count:.6g} J per {noun} ({count})")
        self.lines.info("%s; %d prompt tokens", ", ".join(parts), self.prompt_tokens)
        self._began_s, self._energy_j = now_s, energy_j
        self.tokens = self.prompt_tokens = self.finished = 0


def _asked_interval_s() -> float | None:
    """Seconds between two lines; None where nobody asked for the log. ValueError for a wrong number."""
    given = os.environ.get(_ENVIRONMENT)
    if not given:
        return None
    try:
        seconds = float(given)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise ValueError(f"{_ENVIRONMENT} must be a number of seconds above 0, not {given!r}")
    return seconds


def _logger_class() -> type:
    """The class for the entry point ``vllm.stat_logger_plugins``: vLLM wants a subclass of its own base."""
    from vllm.v1.metrics.loggers import StatLoggerBase

    class EnergyStatLogger(StatLoggerBase):
        """Logs J per token and per request of an engine of vLLM, if FASTGREEN_VLLM_SECONDS is set."""

        def __init__(self, vllm_config: Any, engine_index: int = 0) -> None:
            self._log: EnergyLog | None = None
            # Engines of one machine would each count all of its energy.
            self._interval_s = _asked_interval_s() if engine_index == 0 else None

        def log_engine_initialized(self) -> None:
            if self._interval_s is not None and self._log is None:
                self._log = EnergyLog(interval_s=self._interval_s)

        def record(self, scheduler_stats: Any, iteration_stats: Any, *_: Any, **__: Any) -> None:
            if self._log is not None:
                self._log.record(iteration_stats)

        def log(self) -> None:
            pass

    return EnergyStatLogger


def __getattr__(name: str) -> Any:
    if name == "EnergyStatLogger":
        found = globals()[name] = _logger_class()
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
