"""Of the machine: Python, memory, disk, ports, GPU."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

from llmops_tasks.doctor.findings import Finding, home, ok, problem, stack, version, warning

PYTHONS = ((3, 11), (3, 13))
MEMORY = (2, 4)  # GiB: with less than the first nothing trains; with less than the second a small model just does
DISK = (1, 6)  # GiB free; the second is what a first set-up with its demo takes
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def python() -> Iterator[Finding]:
    """Is this a Python that the project runs on?"""
    found = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if PYTHONS[0] <= tuple(sys.version_info[:2]) <= PYTHONS[1]:
        yield ok("python", found)
    else:
        yield problem("python", found, "Use 3.11, 3.12 or 3.13: make PYTHON=python3.11 install")


def memory() -> Iterator[Finding]:
    """Is there enough memory, within what a container may use?"""
    gib = _memory() / 2**30
    fix = f"Give it {MEMORY[1]} GiB or more, or use a smaller base model."
    yield _measured("memory", gib, MEMORY, f"{gib:.1f} GiB in all", fix)


def _memory() -> int:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in map(Path, _LIMITS):
        if limit.is_file() and (text := limit.read_text(encoding="ascii").strip()).isdecimal():
            total = min(total, int(text))
    return total


def disk() -> Iterator[Finding]:
    """Free disk space at `LLMOPS_HOME`."""
    place = home()
    free = shutil.disk_usage(next(path for path in (place, *place.parents) if path.exists())).free / 2**30
    fix = f"Free {DISK[1]} GiB, or set LLMOPS_HOME to a larger disk."
    yield _measured("disk", free, DISK, f"{free:.1f} GiB free at {place}", fix)


def _measured(check: str, value: float, limits: tuple[float, float], found: str, fix: str) -> Finding:
    if value < limits[0]:
        return problem(check, found, fix)
    return warning(check, found, fix) if value < limits[1] else ok(check, found)


def ports() -> Iterator[Finding]:
    """Are the ports of Airflow and MLflow free, or taken by ours?"""
    yield _port("Airflow", "LLMOPS_PORT", "8080")
    yield _port("MLflow", "LLMOPS_MLFLOW_PORT", "5000")


def _port(service: str, variable: str, usual: str) -> Finding:
    word = os.environ.get(variable, usual)
    if not word.isdecimal() or not 0 < int(word) < 65536:
        return problem(
            f"port of {service}", f"{variable} is not a port number", f"Set it to a number, or unset it: {usual}."
        )
    with socket.socket() as probe:
        taken = probe.connect_ex(("127.0.0.1", int(word))) == 0
    ours = [urllib.parse.urlsplit(str(address)).port for address in stack().values() if "://" in str(address)]
    if taken and int(word) not in ours:
        fix = f"Nothing, if {service} may take the next free port; else stop it, or set {variable}."
        return warning(f"port {word}", "in use by another program", fix)
    return ok(f"port {word}", f"{service} runs there" if taken else "free")


def gpu() -> Iterator[Finding]:
    """Is there a GPU, and a torch that can use it?"""
    if not (command := shutil.which("nvidia-smi")):
        yield ok("gpu", "none: models run on the CPU")
        return
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False, timeout=60)
    found = "; ".join(done.stdout.strip().splitlines())
    if done.returncode:
        yield warning("gpu", "nvidia-smi fails", "Check the driver: run nvidia-smi.")
    elif "+cpu" in version("torch"):
        yield warning("gpu", f"{found}, but torch is a build for CPUs", "Install torch from PyTorch's CUDA index.")
    else:
        yield ok("gpu", found)
