"""``fastgreen channels``: the list of all channels, and for each unreadable one the reason and a remedy."""

from __future__ import annotations

import dataclasses
from typing import Any

import click

from fastgreen.commands.common import JsonAnswer, json_options, say, table
from fastgreen.sensors.channel import Channel, Seams, SourceStatus

__all__ = ["channels"]


@click.command()
@json_options()
def channels(answer: JsonAnswer) -> None:
    """List the energy channels of this machine.

    If a channel cannot be read, the reason and the command that grants access are printed below the table.
    """
    from fastgreen.sensors.catalog import discover

    found, states = discover(Seams.of())
    if answer.give(lambda: _as_mapping(found, states)):
        return
    say(table("channels", [_row(channel) for channel in found]) if found else "this machine has no channel")
    say(*_explanations(found, states))


def _as_mapping(found: list[Channel], states: list[SourceStatus]) -> dict[str, Any]:
    hidden = ("sensor", "traits", "role")
    return {
        "channels": [{k: v for k, v in dataclasses.asdict(c).items() if k not in hidden} for c in found],
        "sources": [dataclasses.asdict(s) for s in states],
    }


def _row(c: Channel) -> dict[str, str]:
    from fastgreen.results.console import titled

    return {
        "channel": titled(c.id, c.name),
        "kind": "estimate" if c.estimated else c.kind,
        "in total": "yes" if c.root and c.visible else "-",
        "readable": "yes" if c.readable else "NO",
        "wraps at": f"{c.wrap_j / 1000:.1f} kJ" if c.wrap_j else "-",
        "note": c.note or "",
    }


def _explanations(found: list[Channel], states: list[SourceStatus]) -> list[str]:
    """A sentence for each source without a channel and for each channel that cannot be read, with its remedy."""
    lines = []
    for state in states:
        if not state.found and state.reason:
            lines.append(f"{state.source}: nothing found: {state.reason}")
            lines += [f"    {state.remedy}"] if state.remedy else []
    for channel in found:
        if not channel.readable:
            lines.append(f"{channel.id}: {channel.reason}")
            lines += [f"    {channel.remedy}"] if channel.remedy else []
    if any(not c.readable and c.remedy and c.source == "rapl" for c in found):
        lines.append("The chmod lasts until the next boot. docs/permissions.md has lasting ways, with their risks;")
        lines.append("`sudo fastgreen grant` is one of them.")
    if any(c.estimated and c.root for c in found):
        lines.append("No CPU energy counter can be read, so CPU energy is estimated from CPU time.")
    return lines
