"""The ledger: seconds for one append to 10,000 entries, and requests for one on S3.

Peer `a_hundred_entries`: the same append to a ledger of 100 entries. An append that reads what it follows gets slower
with every entry; ours is to take as long (goal 0.8: larger folders cost the file system a little), 20 ms at most, and
four requests on S3.
"""

from __future__ import annotations

import os
import time
from typing import Any

from benchmarks.harness import paired, report
from llmops_tasks import config
from llmops_tasks.release import ledger
from llmops_tasks.store import objects
from llmops_tasks.store import s3 as speaking

LONG, SHORT, APPENDS, N = 10_000, 100, 50, 5
USECASES = {"long": "triage", "short": "faq"}


def fill(usecase: str, entries: int) -> None:
    """A ledger of so many entries; what was written is as durable as ever, but for the fsyncs, which are not measured."""
    fsync, os.fsync = os.fsync, lambda handle: None
    try:
        for number in range(entries):
            append(usecase, f"fill {number}")
    finally:
        os.fsync = fsync


def append(usecase: str, once: str) -> None:
    """One entry."""
    ledger.record_entry(usecase=usecase, kind="gate", body={"verdict": {"verdict": "pass"}}, once=once)


def seconds(usecase: str, repetition: int) -> float:
    """Seconds an append."""
    started = time.perf_counter()
    for number in range(APPENDS):
        append(usecase, f"{repetition} {number}")
    return (time.perf_counter() - started) / APPENDS


def requests(entries: int) -> dict[str, int]:
    """Requests to S3 of an append, and of the question who serves, after so many entries."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    aws = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= aws | {"AWS_ENDPOINT_URL_S3": f"http://{host}:{port}", "LLMOPS_STORE": "s3://bucket/store"}
    try:
        boto3.client("s3").create_bucket(Bucket="bucket")
        for number in range(entries):
            append("triage", f"fill {number}")
        return {"append": counted(lambda: append("triage", "new")), "who": counted(_who)}
    finally:
        del os.environ["LLMOPS_STORE"]
        server.stop()


def _who() -> Any:
    from llmops_tasks.release import find_champion

    return find_champion(usecase="triage")


def counted(do: Any) -> int:
    """Requests that something takes."""
    asked: list[str] = []
    again = speaking._again
    speaking._again = lambda uri, ask, *more: asked.append(uri) or again(uri, ask, *more)  # type: ignore[assignment,func-returns-value]
    try:
        do()
    finally:
        speaking._again = again
    return len(asked)


def main() -> None:
    """Both lengths, and S3."""
    known = config.usecase_names()
    long, short = (name if name in known else known[place] for place, name in enumerate(USECASES.values()))
    fill(long, LONG), fill(short, SHORT)
    figures = paired(lambda n: seconds(long, n), lambda n: seconds(short, n), N)
    started = time.perf_counter()
    entries = ledger.verify_ledger(usecase=long)["entries"]
    verified = round(time.perf_counter() - started, 2)
    assert entries == LONG + N * APPENDS and objects.find(f"{objects.store_uri()}/{long}/ledger/*/*.json")
    asked = requests(150)
    more = {"requests": asked["append"], "requests_who_serves": asked["who"], "verify_seconds": verified}
    report(
        "ledger", "a_hundred_entries", f"s an append, at {LONG} and at {SHORT} entries on files", 0.8, figures | more
    )
