"""Write `.env`: the secrets docker-compose.yaml asks for, fresh and for this machine only, and who runs models.

Run it as often as you like. A value that is already there is never changed, because the database and the encrypted
connections were made with it; only missing keys are added. No secret is printed: read them in the file.
"""

import argparse
import base64
import os
import re
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path

HEADER = "# Secrets of this installation. Keep this file out of git, mails and images.\n"
LINE = re.compile(r"^[ \t]*(?:export[ \t]+)?(?P<key>[A-Za-z_]\w*)[ \t]*[=:][ \t]*(?P<value>.*?)[ \t]*$", re.MULTILINE)
AIRFLOW_IMAGE_UID = 50000


def password() -> str:
    """Hexadecimal on purpose: it also goes into database URLs, where other signs would need escaping."""
    return secrets.token_hex(20)


def signing_key() -> str:
    """64 bytes, which is what HMAC-SHA512 asks for (RFC 7518, section 3.2)."""
    return secrets.token_urlsafe(64)


def fernet_key() -> str:
    """32 random bytes in URL-safe base64 (the Fernet specification)."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode("ascii")


def airflow_uid() -> str:
    """Your own user id, so the containers can read the mounted code; never root, and 50000 where there are no ids."""
    uid = os.getuid() if hasattr(os, "getuid") else 0
    return str(uid or AIRFLOW_IMAGE_UID)


def profile() -> str:
    """Where models run. `gpu` needs NVIDIA's container toolkit."""
    return "cpu"


GENERATORS: dict[str, Callable[[], str]] = {
    "AIRFLOW_UID": airflow_uid,
    "COMPOSE_PROFILES": profile,
    "AIRFLOW_ADMIN_PASSWORD": password,
    "AIRFLOW_APPROVER_PASSWORD": password,
    "AIRFLOW_VIEWER_PASSWORD": password,
    "POSTGRES_PASSWORD": password,
    "AIRFLOW_DB_PASSWORD": password,
    "MLFLOW_DB_PASSWORD": password,
    "LLMOPS_PSEUDONYM_KEY": password,
    "AIRFLOW__API_AUTH__JWT_SECRET": signing_key,
    "AIRFLOW__API__SECRET_KEY": signing_key,
    "AIRFLOW__CORE__FERNET_KEY": fernet_key,
}


def with_missing_keys(text: str) -> tuple[str, list[str]]:
    """Return the file's text with the missing keys appended, and their names."""
    present = {match["key"] for match in LINE.finditer(text)}
    missing = [key for key in GENERATORS if key not in present]
    if text and not text.endswith("\n"):
        text += "\n"
    return text + "".join(f"{key}={GENERATORS[key]()}\n" for key in missing), missing


def keys_without_value(text: str) -> list[str]:
    """Name the keys that are there but empty, which `docker compose` refuses."""
    found = {match["key"]: match["value"].strip("\"'") for match in LINE.finditer(text)}
    return [key for key in GENERATORS if not found.get(key)]


def write_private(path: Path, text: str) -> None:
    """Replace the file in one step; mkstemp makes it 0600 from its first byte."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".env.")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def main(argv: list[str] | None = None) -> int:
    """Create or complete the file; 1 if a key is there without a value."""
    parser = argparse.ArgumentParser(description="Write .env with fresh secrets; existing values are kept.")
    default = Path(__file__).resolve().parents[1] / ".env"
    parser.add_argument("path", nargs="?", type=Path, default=default, help="default: .env beside docker-compose.yaml")
    path: Path = parser.parse_args(argv).path.resolve()

    existed = path.exists()
    text, added = with_missing_keys(path.read_text(encoding="utf-8") if existed else HEADER)
    write_private(path, text)
    print(f"{path}: {'kept' if existed else 'written'}, added {', '.join(added) or 'nothing'}")
    if empty := keys_without_value(text):
        print(f"No value for {', '.join(empty)}: fill it in, or delete the line and run this again.")
    return 1 if empty else 0


if __name__ == "__main__":
    raise SystemExit(main())
