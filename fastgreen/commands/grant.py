"""``fastgreen grant``: open the RAPL counters as root and pass them to programs that are not."""

from __future__ import annotations

import grp
import os
import pwd
import signal
from collections.abc import Callable

import click

from fastgreen.sensors.channel import Seams

__all__ = ["grant"]


def _number(text: str, look_up: Callable[[str], int], what: str) -> int:
    if text.isdigit():
        return int(text)
    try:
        return look_up(text)
    except KeyError:
        raise click.BadParameter(f"there is no {what} {text!r}") from None


def _users(names: tuple[str, ...]) -> list[int]:
    return [_number(n, lambda name: pwd.getpwnam(name).pw_uid, "user") for n in names]


def _groups(names: tuple[str, ...]) -> list[int]:
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
    from fastgreen.sensors.grant_server import Allowed, Granter, counters, prepare_folder

    allowed_users, allowed_groups = _users(users), _groups(groups)
    if not users and not groups:
        if "SUDO_UID" not in os.environ:
            raise click.UsageError("give the users allowed to measure: --user NAME or --group NAME")
        allowed_users = [int(os.environ["SUDO_UID"])]
    seams = Seams.of(grant_socket=path)
    # The socket's group is one only; where users are named too, the check of the peer alone must do.
    only_group = allowed_groups[0] if len(allowed_groups) == 1 and not allowed_users else None
    found = counters(seams)
    if path is None:
        prepare_folder(seams.grant_socket)
    granter = Granter(
        path=seams.grant_socket,
        counters=found,
        allowed=Allowed(allowed_users, allowed_groups),
        mode=mode if mode is not None else 0o666 if only_group is None else 0o660,
        group=only_group,
        say=lambda line: click.echo(line, err=True),
    )
    granter.open()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: granter.stop())
    click.echo(f"granting {', '.join(c.zone for c in found)} on {seams.grant_socket}", err=True)
    try:
        granter.serve()
    finally:
        granter.close()
