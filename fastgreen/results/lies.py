"""Sentences on a counter that lied."""

from __future__ import annotations

from fastgreen.units import NS_PER_S, counted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastgreen.results.trace import Trace

__all__ = ["lies"]


def lies(trace: Trace) -> list[str]:
    """What a reader should know of the jumps and standstills of a channel, a sentence each."""
    identity, report, out = trace.channel.id, trace.report, []
    if report.get("in_turn_ns"):
        seconds = (report["in_turn_ns"][1] - report["in_turn_ns"][0]) / NS_PER_S
        out.append(
            f"{identity} shows two counters in turn: its energy in these {seconds:.3g} s is not known, "
            f"up to {trace.ceiling_w:.4g} W are possible"
        )
    elif report.get("jumps"):
        out.append(
            f"{identity} jumped and came back {counted(report['jumps'], 'time')}: "
            f"the readings in between count as no energy and widen the bounds there"
        )
    still = report.get("still_ns", [])
    seconds = sum(end - begin for begin, end in still) / NS_PER_S
    if still and trace.channel.estimated:
        out.append(
            f"the CPU times that {identity} is estimated from stood still for {seconds:.3g} s, as in some sandboxes: "
            f"the load is not known, only the bounds of the estimate hold"
        )
    elif still:
        out.append(
            f"{identity} stood still for {seconds:.3g} s while {report.get('still_why') or 'there was load'}: "
            f"its energy there is not known, up to {trace.ceiling_w:.4g} W are possible"
        )
    return out
