"""The command that learns the sensors."""

from __future__ import annotations

from dataclasses import asdict

import click

from fastgreen.commands.measure import dump
from fastgreen.commands.wording import sentence
from fastgreen.errors import FastgreenError
from fastgreen.results.console import people_console, plain_table, quantity
from fastgreen.sensors.sensor_facts import cache_file

__all__ = ["calibrate"]


@click.command()
@click.option("-c", "--channel", "wanted", multiple=True, help="Channel id or pattern; may be given several times.")
@click.option("--seconds", type=click.FloatRange(0.5, 600), default=12.0, show_default=True, help="How long to watch.")
@click.option("--load", type=click.Choice(["cpu", "gpu", "none"]), default="cpu", show_default=True,
              help="Work that goes on and off meanwhile; gpu needs PyTorch.")  # fmt: skip
@click.option("--no-save", is_flag=True, help="Do not remember what was learnt.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def calibrate(wanted: tuple[str, ...], seconds: float, load: str, no_save: bool, as_json: bool) -> None:
    """Learn how often each sensor updates, in which steps, and over how long it averages."""
    from fastgreen.measuring import calibration as module

    work = {"cpu": module.cpu_work, "none": None}.get(load) if load != "gpu" else module.gpu_work()
    if load == "gpu" and work is None:
        raise click.ClickException("a GPU load needs PyTorch and a CUDA device")
    try:
        facts = module.calibrate(list(wanted) or None, seconds=seconds, load=work, save=not no_save)
    except (FastgreenError, OSError) as error:
        raise click.ClickException(sentence(error)) from error
    if as_json:
        dump({identity: asdict(f) for identity, f in facts.items()})
        return
    console = people_console()
    if not facts:
        console.print("No sensor can be read here, so there is nothing to learn; `fastgreen channels` says why.")
        return
    table = plain_table(
        "sensors", "channel", "updates every", "at most", "jitter", "step", "read", "averages over", "sees"
    )
    for identity, f in facts.items():
        power = "/power" in identity or f.averaging_s is not None
        table.add_row(
            identity,
            *(quantity(v, "s", 3) for v in (f.period_s, f.period_longest_s, f.jitter_s)),
            quantity(f.quantum, "W" if power else "J", 3),
            quantity(f.read_s, "s", 3),
            "-" if f.averaging_s is None else quantity(f.averaging_s, "s", 3) if f.averaging_s else "instant",
            "-" if f.coverage is None else f"{f.coverage:.0%} of the time",
        )
    console.print(table)
    if not no_save:
        console.print(f"remembered in {cache_file()}", markup=False, soft_wrap=True)
