"""Tests work offline, and so does every process that they start.

Python imports a file of this name at its start, and `offline.py` puts this folder on the PYTHONPATH of whatever a
test starts. What would leave this machine, a look-up of a name included, is refused and written down. Only what goes
through Python's own sockets is seen: a library with sockets of its own is not.
"""

from __future__ import annotations

import os
import socket
import sys
import traceback
from ipaddress import ip_address
from pathlib import Path
from typing import Any

RECORD = "LLMOPS_TEST_NETWORK"  # a folder: `started` holds a line for each process, `refused` one for each attempt
_HERE = {"", "localhost", "localhost.localdomain", socket.gethostname().lower()}
_ADDRESSES = {"socket.connect": 1, "socket.sendto": 1, "socket.sendmsg": 1, "socket.getnameinfo": 0}
_NAMES = {"socket.getaddrinfo": 0, "socket.gethostbyname": 0, "socket.gethostbyaddr": 0}


def is_near(host: Any) -> bool:
    """Whether a name or an address is this machine's own."""
    if not isinstance(host, str | bytes | bytearray):
        return True  # none, or the numbers of a socket that knows no hosts
    name = os.fsdecode(bytes(host) if isinstance(host, bytearray) else host).lower().rstrip(".")
    try:
        found = ip_address(name.split("%")[0])
    except ValueError:
        return name in _HERE
    return found.is_loopback or found.is_unspecified


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event in _ADDRESSES:
        address = arguments[_ADDRESSES[event]]
        host = address[0] if isinstance(address, tuple) else None  # else a file's path
    elif event in _NAMES:
        host = arguments[_NAMES[event]]
    else:
        return
    if not is_near(host):
        told = f"{event} {host!r}"
        _write("refused", f"{told} at {_places()} by {' '.join(sys.orig_argv)}")
        raise PermissionError(f"tests work offline: {told}")


def _places() -> str:
    """The lines that led there, the nearest first, without those of the standard library."""
    library = str(Path(os.__file__).parent)
    frames = traceback.extract_stack()[:-2]
    mine = [frame for frame in frames if "site-packages" in frame.filename or not frame.filename.startswith(library)]
    return " < ".join(f"{'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}" for frame in reversed(mine[-6:]))


def _write(name: str, line: str) -> None:
    with (Path(os.environ[RECORD]) / name).open("a", encoding="utf-8") as record:
        record.write(line.replace("\n", " ")[:500] + "\n")


if RECORD in os.environ:
    _write("started", " ".join(sys.orig_argv))
    sys.addaudithook(_watch)
