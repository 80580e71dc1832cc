"""Running a command as if it had been started without us."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
from contextlib import AbstractContextManager, nullcontext
from types import FrameType

__all__ = ["check_command", "run_child"]

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGQUIT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


def check_command(name: str) -> None:
    """OSError for a command that cannot be started, before anything is measured or recorded."""
    if shutil.which(name) is None:
        missing = os.sep not in name or not os.path.exists(name)
        raise OSError(errno.ENOENT if missing else errno.EACCES, os.strerror(errno.ENOENT if missing else errno.EACCES))


class _Witness:
    """A process of our group, which tells a signal that was sent to the whole group from one that was sent to us.

    The system does not say which it was. A terminal, `timeout` and `kill -- -PGID` signal the group, the command in it
    too; `kill PID` and a supervisor signal us alone.
    """

    _PATIENCE_S = 0.2

    def __init__(self) -> None:
        self._process = self._new()

    @staticmethod
    def _new() -> subprocess.Popen | None:
        command = ["sh", "-c", "ulimit -c 0; exec cat >/dev/null 2>&1"]
        try:  # it reads until we are gone, however that happens
            return subprocess.Popen(command, stdin=subprocess.PIPE)
        except OSError:
            return None

    def saw_it(self) -> bool:
        """Whether the signal that has just come was sent to the group; True where nobody knows."""
        if self._process is None:
            return True
        try:
            self._process.wait(self._PATIENCE_S)
        except subprocess.TimeoutExpired:
            return False
        self.dismiss()
        self._process = self._new()
        return True

    def dismiss(self) -> None:
        if self._process is not None:
            self._process.communicate()


def run_child(command: list[str], around: AbstractContextManager[object] | None = None, quiet: bool = False) -> int:
    """Run the command with this terminal; its exit code, or 128 + signal when it was killed. OSError.

    `around` is entered just before the command starts and left when it has ended. `quiet` hides its output.

    We stay until it has ended. A signal reaches it once, whether it was sent to us or to our group. Signals that the
    caller ignores, as nohup does, stay ignored.
    """
    child: subprocess.Popen | None = None
    early: list[int] = []
    witness = _Witness()

    def pass_on(number: int, _: FrameType | None) -> None:
        if child is None:
            early.append(number)
        elif not witness.saw_it():
            child.send_signal(number)

    previous = {
        number: signal.signal(number, pass_on) for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        with nullcontext() if around is None else around:
            child = subprocess.Popen(command, stdout=subprocess.DEVNULL if quiet else None)
            for number in early:
                child.send_signal(number)
            code = child.wait()
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        witness.dismiss()
    return code if code >= 0 else 128 - code
