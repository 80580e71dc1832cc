"""A saved run as a source: its samples, moved to begin now."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from fastgreen import _core
from fastgreen.channel import Channel
from fastgreen.errors import TraceError
from fastgreen.result import load

__all__ = ["replay_channels"]


def replay_channels(path: str) -> list[Channel]:
    """The channels of the run saved at `path`, ready to be played. TraceError when it holds no samples."""
    result = load(path)
    out = []
    for trace in result.traces:
        chunks = list(trace.chunks())
        if not chunks:
            continue
        samples = np.concatenate(chunks)
        samples["at_ns"] -= result.start_ns
        out.append(replace(trace.channel, source="replay", sensor={"record": samples}, traits=trace.channel.traits))
    if not out:
        raise TraceError(f"{path} has no samples to play")
    assert all(c.sensor["record"].dtype == _core.SAMPLE for c in out)
    return out
