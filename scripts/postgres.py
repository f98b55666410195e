"""A PostgreSQL of its own in a folder, from the programs that Debian's package brings; for checks and tests.

sudo apt-get install postgresql
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path


def programs() -> Path | None:
    """The folder of the newest `initdb` here; Debian keeps it away from PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class Postgres:
    """A server on loopback, with a superuser `postgres`; ends with `stop`."""

    def __init__(self, folder: Path, port: int, password: str) -> None:
        if (bin_ := programs()) is None:
            raise SystemExit("PostgreSQL is not installed here. On Debian: apt-get install postgresql")
        self.folder, self.port, self.bin = folder, port, bin_
        # the server refuses to run as root; the package made a user for it
        self.user = "postgres" if os.getuid() == 0 else None
        folder.mkdir(parents=True)
        if self.user:
            os.chown(folder, pwd.getpwnam(self.user).pw_uid, -1)
        self._make(password)
        command = [str(bin_ / "postgres"), "-D", str(folder / "data"), "-p", str(port), "-k", str(folder)]
        with (folder / "postgres.log").open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
                user=self.user, group=self.user, extra_groups=[] if self.user else None,
                cwd=folder, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self._wait()

    def _make(self, password: str) -> None:
        secret = self.folder / "password"
        secret.write_text(password)
        if self.user:
            os.chown(secret, pwd.getpwnam(self.user).pw_uid, -1)
        command = [
            str(self.bin / "initdb"),
            "-D",
            str(self.folder / "data"),
            "-U",
            "postgres",
            "--auth",
            "scram-sha-256",
        ]
        subprocess.run(
            [*command, "--encoding", "UTF8", "--pwfile", str(secret)],
            user=self.user, group=self.user, extra_groups=[] if self.user else None,
            cwd=self.folder, check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        secret.unlink()

    def _wait(self) -> None:
        for _ in range(120):
            command = [str(self.bin / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
            if subprocess.run(command, check=False).returncode == 0:
                return
            time.sleep(0.5)
        self.stop()
        raise SystemExit(f"PostgreSQL did not start: {(self.folder / 'postgres.log').read_text()[-500:]}")

    def environment(self, user: str, password: str, database: str) -> dict[str, str]:
        """What `psql` and its like need to come in as somebody."""
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        where = {"PATH": path, "PGHOST": "127.0.0.1", "PGPORT": str(self.port)}
        return {**where, "PGUSER": user, "PGPASSWORD": password, "PGDATABASE": database}

    def sql(self, text: str, user: str, password: str, database: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a script as the image runs those of its initdb folder; the answer is bare rows."""
        command = [str(self.bin / "psql"), "-v", "ON_ERROR_STOP=1", "--no-psqlrc", "--no-password", "-tA", "-f", "-"]
        settings = {**self.environment(user, password, database), **env}
        return subprocess.run(command, input=text, env=settings, capture_output=True, text=True, check=False)

    def stop(self) -> None:
        """End it, as PostgreSQL's image does: what runs is rolled back."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
            self.process.wait(timeout=60)
