"""A saved run as a source: its samples, moved to begin now."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fastgreen import _resolver
from fastgreen.errors import TraceError
from fastgreen.results.loading import load
from fastgreen.results.run_checks import LARGEST, LONGEST_NS
from fastgreen.sensors.channel import Channel
from fastgreen.units import NS_PER_S

__all__ = ["replay_channels"]


def replay_channels(path: str, speed: float = 1.0) -> list[Channel]:
    """The channels of the run saved at `path`, ready to be played. TraceError when it holds no samples.

    Twice as fast is twice the power: so every channel keeps its energy, whatever the speed.
    """
    faster = speed or 1.0
    result = load(path)
    if result.duration_s / faster > LONGEST_NS / NS_PER_S:
        raise ValueError(f"speed must be higher, not {speed!r}: the run would last {result.duration_s / faster:.3g} s")
    out = []
    for trace in result.traces:
        chunks = list(trace.chunks())
        if not chunks:
            continue
        samples = np.concatenate(chunks)
        # What settling read behind the end is no part of the total.
        samples = samples[samples["at_ns"] <= trace.tally["end_at_ns"]]
        samples["at_ns"] -= result.start_ns
        channel = trace.channel
        if channel.kind == "power":
            samples["raw"] = np.clip(np.round(samples["raw"] * faster), -LARGEST, LARGEST)
        out.append(
            replace(
                channel,
                source="replay",
                counter="",
                sensor={"record": samples, "tick_ns": round(_tick_ns(samples) / faster)}
                | {"then": _standstills(trace.tally, result.start_ns, faster, int(samples["at_ns"][0]))},
                ceiling_w=channel.ceiling_w and channel.ceiling_w * faster,
                floor_w=channel.floor_w and channel.floor_w * faster,
            )
        )
    if not out:
        raise TraceError(f"{path} has no samples to play")
    assert all(c.sensor["record"].dtype == _resolver.SAMPLE for c in out)
    return out


def _standstills(tally: dict[str, Any], start_ns: int, faster: float, first_ns: int) -> dict[str, Any]:
    """Where the counter was found to stand still under load, on the time axis of the replay, and what showed it.

    The load of the CPUs is not recorded, only what was made of it.
    """
    still = [[round((at_ns - start_ns) / faster) for at_ns in pair] for pair in tally.get("still_ns", [])]
    return {
        "still_ns": still,
        "still_why": tally.get("still_why"),
        "first_ns": round(first_ns / faster),
        "faster": faster,
    }


def _tick_ns(samples: np.ndarray) -> float:
    """How often the channel was read, so that a stall of the sampler is again no slow sensor; 0 where nobody knows."""
    return float(np.median(np.diff(samples["at_ns"]))) if len(samples) > 1 else 0.0
