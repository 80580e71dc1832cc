# SPDX-License-Identifier: Apache-2.0
"""``python -m benchmarks.peers``: installs the peers (once), measures all tools, writes table and picture."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
from pyarrow import feather

from . import calls, namespace
from .cases import Bench
from .environments import InstallError, environment, installed_version
from .picture import draw
from .table import OURS, Figure, Sheet, merged, splice, to_arrow
from .tools import BINDINGS, TOOLS, Tool

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "peers.md"
PICTURE = ROOT / "docs" / "peers.png"


def main() -> int:
    options = _options()
    if options.table:
        return _publish(options.out / "peers.arrow", options.publish)
    tools = [tool for tool in TOOLS if not options.tools or tool.name in options.tools]
    try:
        if not options.inside:
            reason = namespace.refusal(os.geteuid(), shutil.which("unshare"))
            if reason is not None:
                raise namespace.NotAllowed(reason)
            _install([*tools, *BINDINGS], options.out)
            namespace.enter(["-m", "benchmarks.peers", "--inside", *sys.argv[1:]])
        _measure(tools, options)
    except namespace.NotAllowed as error:
        print(error, file=sys.stderr)
        return 2
    return _publish(options.out / "peers.arrow", options.publish)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("tools", nargs="*", help="only these, the others' rows of the last run are kept (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "peers", help="build folder")
    parser.add_argument("--cases", type=lambda text: text.split(","), default=[], help="only these: overlap,ranks,page")
    parser.add_argument("--seconds", type=float, default=2.0, help="length of a sampling run")
    parser.add_argument("--publish", action="store_true", help="write docs/peers.md and its picture")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the last table again")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _install(tools: list[Tool], out: Path) -> None:
    for tool in tools:
        try:
            environment(tool, out / "venvs")
        except InstallError as error:
            print(f"{tool.name} cannot be installed: {error}", file=sys.stderr)


def _measure(tools: list[Tool], options: argparse.Namespace) -> None:
    fresh = not options.tools and not options.cases
    figures: list[Figure] = []
    versions: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True) as name:
        facts = _facts()  # of the machine itself, before it shows another face
        namespace.set_face(Path(name))
        bench = Bench(Path(name), options.seconds)
        for tool in tools:
            started = time.monotonic()
            figures += _one(bench, tool, options, versions)
            _keep(options.out / "peers.arrow", to_arrow(figures, versions, facts), fresh)
            print(f"{tool.name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        if not options.cases:
            figures += calls.measure(bench.nvml, BINDINGS, options.out / "venvs", versions)
    _keep(options.out / "peers.arrow", to_arrow(figures, versions, facts), fresh)


def _keep(path: Path, table: pa.Table, fresh: bool) -> None:
    """Writes the table; unless `fresh`, with the rows that the file has of other tools and cases."""
    if not fresh and path.exists():
        table = merged(feather.read_table(str(path), memory_map=False), table)
    feather.write_feather(table, str(path), compression="uncompressed")


def _one(bench: Bench, tool: Tool, options: argparse.Namespace, versions: dict[str, str]) -> list[Figure]:
    try:
        python = environment(tool, options.out / "venvs").absolute()
    except InstallError as error:
        return [Figure(tool.name, "install", "why not", "", None, note=str(error))]
    if tool.name != OURS:
        versions[tool.name] = installed_version(python, tool)
    return list(bench.measure(tool, python, options.cases))


def _facts() -> dict[str, str]:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "on": datetime.date.today().isoformat(),
        "with": f"Python {platform.python_version()}, Linux {platform.release().partition('-')[0]}",
        "using": f"{len(models)} CPUs ({models[0] if models else platform.machine()})",
    }


def _publish(path: Path, publish: bool) -> int:
    if not path.exists():
        print(f"nothing has been measured yet: {path.name} is not there", file=sys.stderr)
        return 2
    table: pa.Table = feather.read_table(str(path))
    sheet = Sheet(table)
    draw(sheet, path.with_suffix(".png"))
    text = sheet.markdown()
    print(text)
    if publish:
        splice(DOCUMENT, text)
        shutil.copyfile(path.with_suffix(".png"), PICTURE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
