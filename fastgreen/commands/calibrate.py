"""``fastgreen calibrate``: learn the sensors of this machine."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fastgreen.commands.common import JsonAnswer, channel_option, json_options, say, table
from fastgreen.results.console import quantity
from fastgreen.sensors.sensor_facts import cache_file

if TYPE_CHECKING:
    from fastgreen.sensors.sensor_facts import SensorFacts

__all__ = ["calibrate"]


@click.command()
@channel_option()
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=12.0, show_default=True,
              help="Time to watch the sensors.")  # fmt: skip
@click.option("--load", type=click.Choice(["cpu", "gpu", "none"]), default="cpu", show_default=True,
              help="Load to switch on and off while watching; gpu needs PyTorch.")  # fmt: skip
@click.option("--no-save", is_flag=True, help="Print the result without saving it.")
@json_options()
def calibrate(channels: list[str] | None, seconds: float, load: str, no_save: bool, answer: JsonAnswer) -> None:
    """Learn how often and in which steps each sensor updates.

    The command also learns the time over which each power sensor averages. Later measurements on this machine use the
    result.
    """
    from fastgreen.measuring import calibration as module

    work = {"cpu": module.cpu_work, "none": None}.get(load) if load != "gpu" else module.gpu_work()
    if load == "gpu" and work is None:
        raise click.ClickException("a GPU load needs PyTorch and a CUDA device")
    facts = module.calibrate(channels, seconds=seconds, load=work, save=not no_save)
    if answer.give(lambda: {identity: asdict(f) for identity, f in facts.items()}):
        return
    if not facts:
        say("No sensor can be read here, so there is nothing to learn; `fastgreen channels` gives the reasons.")
        return
    say(table("sensors", [_row(identity, f) for identity, f in facts.items()]))
    if not no_save:
        say(f"saved in {cache_file()}")


def _row(identity: str, f: SensorFacts) -> dict[str, str]:
    power = "/power" in identity or f.averaging_s is not None
    averages = "-" if f.averaging_s is None else quantity(f.averaging_s, "s", 3) if f.averaging_s else "instant"
    return {
        "channel": identity,
        "updates every": quantity(f.period_s, "s", 3),
        "at most": quantity(f.period_longest_s, "s", 3),
        "jitter": quantity(f.jitter_s, "s", 3),
        "step": quantity(f.quantum, "W" if power else "J", 3),
        "read": quantity(f.read_s, "s", 3),
        "averages over": averages,
        "sees": "-" if f.coverage is None else f"{f.coverage:.0%} of the time",
    }
