# SPDX-License-Identifier: Apache-2.0
"""Checks the packages of `make dist` as a user gets them: ``python -m tests.wheel_check DIST PYTHON``.

The wheel holds nothing for debuggers, needs no compiler, and measures in an environment of its own. The source
distribution builds from what it holds, without a network. It prints what it saw, and exits with 1 where a check fails.
"""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import click

# Seen: 1.40 MB, of which 0.84 MB are Python. A larger wheel has symbols for debuggers, or something twice.
MOST_BYTES = 1_450_000
INSTALL_CPU_S = 30.0  # of processor time; seen: 6 to 12 s. The time on the clock is the network's and other programs'


def run(*command: object, **environment: str) -> str:
    """What a command printed; a ClickException where it fails."""
    done = subprocess.run([str(part) for part in command], env=environment or None, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def inside(wheel: Path) -> None:
    """Check the size of the wheel, and its compiled modules for sections of debuggers."""
    size = wheel.stat().st_size
    with zipfile.ZipFile(wheel) as archive:
        compiled = [entry for entry in archive.infolist() if entry.filename.endswith(".so")]
        for entry in compiled:
            if b".debug_info\0" in archive.read(entry):
                raise click.ClickException(f"{entry.filename} holds symbols for debuggers")
        packed = sum(entry.compress_size for entry in compiled)
    click.echo(f"{wheel.name}: {size / 1e6:.2f} MB, {packed / 1e6:.2f} MB of them in {len(compiled)} compiled modules")
    if size > MOST_BYTES:
        raise click.ClickException(f"{wheel.name} is above {MOST_BYTES / 1e6:.2f} MB")


def measured(wheel: Path, python: str, folder: Path) -> None:
    """Install the wheel where no program but Python is on the path, and measure something."""
    run(python, "-m", "venv", folder / "venv")
    tools = folder / "venv" / "bin"
    bare = {"PATH": str(tools), "HOME": str(folder)}
    bare |= {name: value for name, value in os.environ.items() if name.startswith("PIP_") or "CERT" in name}
    begun, begun_cpu_s = time.monotonic(), _children_s()
    run(tools / "python", "-m", "pip", "install", "--quiet", "--only-binary=:all:", wheel, **bare)
    took_s, took_cpu_s = time.monotonic() - begun, _children_s() - begun_cpu_s
    version = run(tools / "fastgreen", "--version", **bare).strip()
    run(tools / "fastgreen", "run", "--", tools / "python", "-c", "sum(range(10**6))", **bare)
    times = f"{took_s:.0f} s ({took_cpu_s:.0f} s of processor time)"
    click.echo(f"{version}: installed without a compiler in {times}, and it measures")
    if took_cpu_s > INSTALL_CPU_S:
        raise click.ClickException(f"the installation needed more than {INSTALL_CPU_S:.0f} s of processor time")


def _children_s() -> float:
    """Processor time of the programs that ended, in s."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def rebuilt(source: Path, folder: Path) -> None:
    """Build a wheel from the source distribution without a network, with what this environment has installed."""
    quiet = ["--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    run(sys.executable, "-m", "pip", "wheel", *quiet, "--wheel-dir", folder / "again", source)
    click.echo(f"{source.name}: builds without a network")


@click.command()
@click.argument("dist", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("python")
def main(dist: Path, python: str) -> None:
    """Check the wheels in DIST that PYTHON can install, and the source distribution beside them."""
    tag = run(python, "-c", "import sys; print('cp{}{}'.format(*sys.version_info))").strip()
    wheels = sorted(dist.glob(f"*-{tag}-{tag}-*.whl"))
    if not wheels:
        raise click.ClickException(f"{dist} holds no wheel for {tag}; make dist builds one")
    for wheel in wheels:
        inside(wheel)
        if shutil.which("auditwheel"):
            click.echo(run("auditwheel", "show", wheel).strip())
        with tempfile.TemporaryDirectory() as folder:
            measured(wheel, python, Path(folder))
    for source in dist.glob("*.tar.gz"):
        with tempfile.TemporaryDirectory() as folder:
            rebuilt(source, Path(folder))


if __name__ == "__main__":
    main()
