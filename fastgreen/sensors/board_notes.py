"""Boards that a run measures or leaves out although the program's own numbering of boards says otherwise."""

from __future__ import annotations

from collections.abc import Iterable

from fastgreen.sensors.channel import Channel

__all__ = ["HIDDEN_BY", "REORDERED", "board_notes"]

HIDDEN_BY = "hidden by "
REORDERED = "CUDA_VISIBLE_DEVICES counts fastest first unless CUDA_DEVICE_ORDER=PCI_BUS_ID; boards differ here"


def _hidden(board: Channel) -> str:
    """Its note about the variable that hides it."""
    return next((part for part in (board.note or "").split("; ") if part.startswith(HIDDEN_BY)), "hidden")


def board_notes(found: Iterable[Channel], chosen: Iterable[Channel], by_default: bool) -> list[str]:
    """Notes for a report: boards that a variable hides, and boards that CUDA may count in another order than NVML.

    Parameters
    ----------
    found : iterable of Channel
        All channels of the machine.
    chosen : iterable of Channel
        The channels that are measured.
    by_default : bool
        Whether the user named no channels; boards that are left out then are reported as well.
    """
    boards = [c for c in found if c.parent is None and c.readable and not (c.visible and c.source != "nvml")]
    measured = {c.parent or c.id for c in chosen}
    out = []
    for board in boards:
        taken = board.id in measured
        if not board.visible and (taken or by_default):
            word = "measured" if taken else "not measured"
            out.append(f"{board.id} ({board.name}) is {_hidden(board)} and is {word}")
        elif taken and REORDERED in (board.note or ""):
            out.append(f"{board.id} ({board.name}) is measured, but {REORDERED}, so CUDA may use another board")
    return out
