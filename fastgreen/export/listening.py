# SPDX-License-Identifier: Apache-2.0
"""The address that an endpoint listens at: parsed, and refused if other machines can reach it unasked."""

from __future__ import annotations

import errno
import ipaddress
import os
import re

__all__ = ["address_of", "named"]

_LISTEN = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+(?:%\w+)?)\]|(?P<host>[^\[\]:/\s]+)):(?P<port>[0-9]{1,5})")


def address_of(listen: str, allow_remote: bool) -> tuple[str, int]:
    """Host and port of ``HOST:PORT``.

    Raises
    ------
    ValueError
        If it has another form, or other machines can reach it and `allow_remote` is off.
    """
    found = _LISTEN.fullmatch(listen) if isinstance(listen, str) else None
    if found is None or int(found["port"]) > 65535:
        raise ValueError(f"listen must be HOST:PORT, such as 127.0.0.1:9477 or [::1]:9477, not {listen!r}")
    host, port = found["six"] or found["host"], int(found["port"])
    if not allow_remote and not is_loopback(host):
        raise ValueError(
            f"listen must be an address of this machine alone, such as 127.0.0.1:{port}, not {listen!r}: there, other "
            "machines could read its power, which tells about its work; allow_remote (--allow-remote) permits that"
        )
    return host, port


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def named(listen: str, error: OSError) -> OSError:
    """The error of a failed bind, with the address."""
    if error.errno == errno.EADDRINUSE:
        return OSError(error.errno, "another program listens at this address; choose another port", listen)
    return OSError(error.errno, os.strerror(error.errno) if error.errno else str(error), listen)
