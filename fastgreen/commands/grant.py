"""``fastgreen grant``: open the RAPL counters as root and pass them to programs that are not."""

from __future__ import annotations

import os
import signal
import stat
import sys
from collections.abc import Callable

import click

from fastgreen.sensors.channel import Seams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastgreen.sensors.grant_log import Log
    from fastgreen.sensors.grant_server import Granter

__all__ = ["grant", "serve"]

MOST_ID = (1 << 32) - 2  # the highest number of a user or group


def _number(text: str, look_up: Callable[[str], int], what: str) -> int:
    if text.isascii() and text.isdigit() and int(text[:11]) <= MOST_ID:
        return int(text)
    try:
        return look_up(text)
    except (KeyError, ValueError):  # ValueError: a name with a null character
        raise click.BadParameter(f"there is no {what} {text!r}") from None


def _users(names: tuple[str, ...]) -> list[int]:
    import pwd  # Windows has none, and lists this command too

    return [_number(n, lambda name: pwd.getpwnam(name).pw_uid, "user") for n in names]


def _groups(names: tuple[str, ...]) -> list[int]:
    import grp

    return [_number(n, lambda name: grp.getgrnam(name).gr_gid, "group") for n in names]


def _mode(_: click.Context, __: click.Parameter, text: str | None) -> int | None:
    try:
        return int(text, 8) & 0o777 if text is not None else None
    except ValueError:
        raise click.BadParameter(f"mode must be octal, such as 660, not {text!r}") from None


@click.command()
@click.option("--socket", "path", metavar="PATH", help="Socket to listen on.  [default: where programs look for it]")
@click.option("-u", "--user", "users", multiple=True, help="User allowed to measure; repeat it for more.")
@click.option("-g", "--group", "groups", multiple=True, help="Group allowed to measure; repeat it for more.")
@click.option("--mode", metavar="OCTAL", callback=_mode, help="Mode of the socket.  [default: 660; 666 with --user]")
def grant(path: str | None, users: tuple[str, ...], groups: tuple[str, ...], mode: int | None) -> None:
    """Let chosen users read the CPU energy counters (needs root).

    The command opens the RAPL counters and passes them to programs of these users, until Ctrl-C or SIGTERM:

    \b
    sudo fastgreen grant --group energy

    Without --user and --group, it serves the user who called sudo. Programs find the socket by themselves.
    docs/permissions.md describes the permission and its risk.
    """
    from fastgreen.sensors.grant_log import Log
    from fastgreen.sensors.grant_server import Allowed, Granter, counters, more_descriptors, prepare_folder

    allowed_users, allowed_groups = _users(users), _groups(groups)
    if not users and not groups:
        allowed_users = [_user_of_sudo()]
    # Not Seams.of(): it runs as root, and its environment may be another's.
    seams = Seams() if path is None else Seams(grant_socket=path)
    # The socket's group is one only; where users are named too, the check of the peer alone must do.
    only_group = allowed_groups[0] if len(allowed_groups) == 1 and not allowed_users else None
    log = Log()
    for folder in _folders_of_others():
        log(f"warning: not only root can write {folder}, from which this program, run as root, imports")
    found = counters(seams)
    if path is None:
        prepare_folder(seams.grant_socket)
    granter = Granter(
        path=seams.grant_socket,
        counters=found,
        allowed=Allowed(allowed_users, allowed_groups),
        mode=mode if mode is not None else 0o666 if only_group is None else 0o660,
        group=only_group,
        say=log,
    )
    more_descriptors()
    serve(granter, log)


def serve(granter: Granter, log: Log) -> None:
    """Open the granter and let it serve until SIGTERM or Ctrl-C."""
    granter.open()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: granter.stop())
    log(f"granting {', '.join(c.zone for c in granter.counters)} on {granter.path}")
    try:
        granter.serve()
    finally:
        granter.close()


def _user_of_sudo() -> int:
    user = os.environ.get("SUDO_UID", "")
    if not (user.isascii() and user.isdigit()):
        raise click.UsageError("give the users allowed to measure: --user NAME or --group NAME")
    return int(user)


def _folders_of_others() -> list[str]:
    """Folders that this process imports from, where it is root's, and that other users can write."""
    if os.geteuid() != 0:
        return []
    import fastgreen

    folders = {os.path.realpath(folder or ".") for folder in [*sys.path, *fastgreen.__path__]}
    return sorted(folder for folder in folders if _writable_by_others(folder))


def _writable_by_others(folder: str) -> bool:
    try:
        found = os.stat(folder)
    except OSError:
        return False
    return found.st_uid != 0 or bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
