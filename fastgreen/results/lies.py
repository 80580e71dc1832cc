"""Sentences on a counter that lied."""

from __future__ import annotations

from fastgreen.units import NS_PER_S, counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastgreen.results.trace import Trace

__all__ = ["lies"]


def _charging(trace: Trace) -> list[str]:
    """How long a battery did not discharge; its samples are gaps of 0 there (csrc/fg_source_hwmon.c)."""
    import numpy as np

    from fastgreen import _resolver

    samples = np.concatenate(list(trace.chunks()))
    charging = (samples["raw"] == 0) & ((samples["flags"] & _resolver.GAP) != 0)
    seconds = float(np.diff(samples["at_ns"], prepend=samples["at_ns"][:1])[charging].sum()) / NS_PER_S
    if not charging.any():
        return []
    return [
        f"{trace.channel.id} did not discharge for {seconds:.3g} s: what the machine drew then is not known, "
        f"up to {trace.ceiling_w:.4g} W are possible"
    ]


def lies(trace: Trace) -> list[str]:
    """What a reader should know of the jumps and standstills of a channel, a sentence each."""
    identity, tally, out = trace.channel.id, trace.tally, []
    if trace.channel.id.startswith("battery:") and tally["gaps"] and trace.has_samples:
        out += _charging(trace)
    if trace.in_turn is not None:
        seconds = (trace.in_turn[1] - trace.in_turn[0]) / NS_PER_S
        out.append(
            f"{identity} shows two counters in turn: its energy during these {seconds:.3g} s is not known, "
            f"up to {trace.ceiling_w:.4g} W are possible"
        )
    elif trace.jumps:
        out.append(
            f"{identity} jumped and came back {counted(trace.jumps, 'time')}: "
            f"the readings in between count as no energy and widen the bounds there"
        )
    still = tally.get("still_ns", [])
    seconds = sum(end - begin for begin, end in still) / NS_PER_S
    if still and trace.channel.estimated:
        out.append(
            f"the CPU times behind {identity} did not change for {seconds:.3g} s, as in some sandboxes: "
            f"the load is not known, and only the bounds of the estimate are valid"
        )
    elif still:
        out.append(
            f"{identity} did not change for {seconds:.3g} s while {tally.get('still_why') or 'there was load'}: "
            f"its energy there is not known, up to {trace.ceiling_w:.4g} W are possible"
        )
    return out
