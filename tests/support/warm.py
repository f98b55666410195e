"""Python programs in forks of one process that has made the heavy imports: most of what a command costs is imports.

python warm.py serve SOCKET                 imports, then waits for programs
python warm.py SOCKET -m MODULE ARGUMENT... runs one, with the caller's folder, environment, input and outputs
python warm.py SOCKET -c CODE ARGUMENT...
"""

from __future__ import annotations

import array
import json
import os
import runpy
import signal
import socket
import sys
import time
from typing import Any

HEAVY = ("torch", "transformers.modeling_utils", "peft", "mlflow", "pandas", "pyarrow.parquet", "great_expectations.expectations")  # fmt: skip


def serve(address: str) -> None:
    """Fork one process for each program, until it is ended."""
    import importlib

    for name in HEAVY:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    while True:
        connection, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _attend(connection)
        connection.close()


def _attend(connection: socket.socket) -> None:
    """Run the program in a child of this process, and tell how it ended."""
    given, outlets = _received(connection)
    child = os.fork()
    if child == 0:
        connection.close()
        _run(given, outlets)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    connection.sendall(str(code if code >= 0 else 128 - code).encode())
    os._exit(0)


def _received(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    size = int(connection.recv(8))
    outlets = array.array("i")
    message, ancillary, _, _ = connection.recvmsg(1, socket.CMSG_LEN(3 * outlets.itemsize))
    for _, _, data in ancillary:
        outlets.frombytes(data)
    while len(message) <= size:
        message += connection.recv(size)
    return json.loads(message[1:]), list(outlets)


def _run(given: dict[str, Any], outlets: list[int]) -> None:
    for number, outlet in enumerate(outlets):
        os.dup2(outlet, number)
    os.chdir(given["folder"])
    os.environ.clear()
    os.environ |= given["environment"]
    kind, program, *arguments = given["words"]
    sys.argv = [kind, *arguments]
    sys.path[0] = given["folder"]
    code: Any = 0
    try:
        if kind == "-m":
            runpy.run_module(program, run_name="__main__", alter_sys=True)
        else:
            exec(compile(program, "<string>", "exec"), {"__name__": "__main__"})  # noqa: S102 (what -c asks for)
    except SystemExit as ended:
        code = ended.code
    _end(code if isinstance(code, int) else int(code is not None))


def _end(code: int) -> None:
    """Without taking down what was imported: that would copy all of it, and takes seconds."""
    for stream in (sys.stdout, sys.stderr):
        if not stream.closed:
            stream.flush()
    os._exit(code)


def ask(address: str, words: list[str]) -> int:
    """Have one run, as soon as the imports are made; returns its exit code."""
    while not os.path.exists(address):
        time.sleep(0.05)
    message = json.dumps({"folder": os.getcwd(), "environment": dict(os.environ), "words": words}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        connection.sendall(f"{len(message):8}".encode())
        connection.sendmsg([b"!"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1, 2]))])
        connection.sendall(message)
        return int(connection.recv(8) or b"1")


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2])
    else:
        sys.exit(ask(sys.argv[1], sys.argv[2:]))
