"""Sentences on a counter that lied."""

from __future__ import annotations

from fastgreen.units import NS_PER_S, counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastgreen.results.trace import Trace

__all__ = ["lies"]


def lies(trace: Trace) -> list[str]:
    """What a reader should know of the jumps and standstills of a channel, a sentence each."""
    identity, tally, out = trace.channel.id, trace.tally, []
    if tally.get("in_turn_ns"):
        seconds = (tally["in_turn_ns"][1] - tally["in_turn_ns"][0]) / NS_PER_S
        out.append(
            f"{identity} shows two counters in turn: its energy during these {seconds:.3g} s is not known, "
            f"up to {trace.ceiling_w:.4g} W are possible"
        )
    elif tally.get("jumps"):
        out.append(
            f"{identity} jumped and came back {counted(tally['jumps'], 'time')}: "
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
