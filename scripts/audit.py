"""Asks a vulnerability service about every package of the image, by pip-audit.

    make audit

A vulnerability fails, unless `.ci/accepted_vulnerabilities.toml` names it with a reason and a day until which that holds.
Without the service nothing was audited: that is said on the last line, and is no failure of the code.
"""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ACCEPTED = ROOT / ".ci" / "accepted_vulnerabilities.toml"
LOCKS = ("requirements.lock", "requirements-torch-cuda.lock")
OUT_OF_REACH = ("ServiceError", "ConnectionError", "Connection", "Max retries", "timed out", "Timeout", "HTTPError")
NOT_AUDITED = (
    "NOT AUDITED: {}. Nothing is known about vulnerabilities; run `make audit` where the service can be reached."
)


def audited() -> dict[str, Any] | str:
    """What pip-audit found, or why the service could not be asked."""
    command = [
        shutil.which("pip-audit") or "pip-audit",
        "--format",
        "json",
        "--progress-spinner",
        "off",
        "--disable-pip",
    ]
    command += [word for name in LOCKS for word in ("--requirement", str(ROOT / name))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        if any(word in done.stderr for word in OUT_OF_REACH):
            return last
        raise SystemExit(f"pip-audit failed: {last}") from None


def accepted(today: datetime.date) -> dict[str, str]:
    """Vulnerabilities that somebody has looked at, with the reason; those whose day has passed are not among them."""
    entries = tomllib.loads(ACCEPTED.read_text(encoding="utf-8")).get("accepted", [])
    for entry in entries:
        if (
            set(entry) != {"id", "reason", "until"}
            or not entry["reason"]
            or not isinstance(entry["until"], datetime.date)
        ):
            raise SystemExit(f"{ACCEPTED.name}: an entry is id, reason and until (a date); given: {entry}")
    return {entry["id"]: entry["reason"] for entry in entries if entry["until"] >= today}


def verdict(found: dict[str, Any], known: dict[str, str]) -> tuple[list[str], list[str], int]:
    """Vulnerabilities that nobody accepts, packages that the service does not know, and how many it was asked about."""
    packages = found["dependencies"]
    open_ = [
        f"{package['name']} {package['version']}: {each['id']}, mended in {', '.join(each['fix_versions']) or 'none yet'}"
        for package in packages
        for each in package.get("vulns", [])
        if not {each["id"], *each.get("aliases", [])} & set(known)
    ]
    return open_, [package["name"] for package in packages if "skip_reason" in package], len(packages)


def main() -> int:
    """Say what was found; 1 if something is open."""
    known = accepted(datetime.date.today())
    if isinstance(found := audited(), str):
        print(NOT_AUDITED.format(f"the service is unreachable ({found})"))
        return 0
    open_, unknown, count = verdict(found, known)
    if count and len(unknown) == count:
        print(NOT_AUDITED.format("the service knows none of the packages"))
        return 0
    print("\n".join([*open_, *([f"not audited: {', '.join(unknown)}"] if unknown else [])]))
    print(f"{count - len(unknown)} packages audited, {len(open_)} open vulnerabilities, {len(known)} accepted")
    return int(bool(open_))


if __name__ == "__main__":
    sys.exit(main())
