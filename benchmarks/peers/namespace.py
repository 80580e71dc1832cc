# SPDX-License-Identifier: Apache-2.0
"""A private view of the machine: a fake powercap tree in its place in /sys, an Intel face, and no network.

Everything happens in a mount and a network namespace of this process, and ends with it. /sys refuses new folders, so
where it has no powercap the two folders that should hold one are covered by small file systems of their own that show
what was there before, and the new folder.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["REFUSAL", "NotAllowed", "enter", "refusal", "set_face", "show"]

REFUSAL = "the peers are measured in a private mount namespace (unshare --mount --net), which takes root"
SHOWN = ("/sys/class/powercap", "/sys/devices/virtual/powercap")
INTEL = {
    "vendor_id": "GenuineIntel",
    "cpu family": "6",
    "model": "106",
    "model name": "Intel(R) Xeon(R) Platinum 8360Y CPU @ 2.40GHz",
}


class NotAllowed(RuntimeError):
    """This user, or this machine, may not make a private namespace."""


def refusal(user: int, tool: str | None, tried: str | None = None) -> str | None:
    """Reason against a namespace, as a sentence; None if there is none.

    `user` is the effective user id, `tool` the path of unshare(1), `tried` what it said when it was tried and failed.
    """
    if user != 0:
        return f"{REFUSAL}: this is user {user}, so nothing was measured"
    if tool is None:
        return f"{REFUSAL} and the program unshare of util-linux: it is not here, so nothing was measured"
    if tried is not None:
        return f"{REFUSAL}, and it is not allowed here ({tried}), so nothing was measured"
    return None


def enter(arguments: list[str]) -> None:
    """Run this program again, with `arguments`, inside a private namespace; does not return.

    Raises
    ------
    NotAllowed
        With the sentence of `refusal`.
    """
    tool = shutil.which("unshare")
    sentence = refusal(os.geteuid(), tool)
    if sentence is None and tool is not None:
        tried = subprocess.run([tool, "--mount", "--net", "true"], capture_output=True, text=True)
        if tried.returncode == 0:
            os.execv(tool, [tool, "--mount", "--net", "--propagation", "private", sys.executable, *arguments])
        sentence = refusal(0, tool, tried.stderr.strip())
    raise NotAllowed(sentence)


def set_face(folder: Path) -> None:
    """Makes room for a powercap tree in /sys and shows the processor as an Intel one."""
    for shown in SHOWN:
        if not Path(shown).exists():
            _make_room(Path(shown), folder / "before" / Path(shown).parent.name)
    face = folder / "cpuinfo"
    face.write_text(intel_face(Path("/proc/cpuinfo").read_text()))
    _mount("--bind", str(face), "/proc/cpuinfo")


def intel_face(text: str) -> str:
    """/proc/cpuinfo with the vendor and the model of an Intel server, and no mention of a hypervisor."""
    for key, value in INTEL.items():
        text = re.sub(rf"(?m)^({key}\s*:) .*$", rf"\1 {value}", text)
    return re.sub(r"(?m)^(flags\s*:.*?) hypervisor\b", r"\1", text)


def show(tree_folder: Path) -> None:
    """Shows the powercap tree in this folder in its place in /sys, instead of the one shown before."""
    for shown, inside in zip(SHOWN, ("class/powercap", "devices/virtual/powercap"), strict=True):
        _unmount(shown)
        _mount("--bind", str(tree_folder / inside), shown)


def _make_room(wanted: Path, before: Path) -> None:
    """Covers the folder that should hold `wanted` by one that holds it, and all that was there."""
    covered = wanted.parent
    before.mkdir(parents=True)
    _mount("--rbind", str(covered), str(before))
    _mount("-t", "tmpfs", "tmpfs", str(covered))
    for entry in sorted(before.iterdir()):
        if entry.is_symlink():
            (covered / entry.name).symlink_to(entry.readlink())
        elif entry.is_dir():
            (covered / entry.name).mkdir()
            _mount("--rbind", str(entry), str(covered / entry.name))
    wanted.mkdir()
    _unmount("--recursive", str(before))


def _mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise NotAllowed(refusal(0, "unshare", done.stderr.strip()) or "")


def _unmount(*arguments: str) -> None:
    """Unmounts where something is mounted; whether there was is not asked."""
    subprocess.run(["umount", "--lazy", *arguments], capture_output=True)
