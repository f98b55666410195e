"""The whole life cycle in a real Airflow, driven through its REST API as a user would. All data is synthetic.

    python scripts/demo.py          starts Airflow and MLflow if needed, and leaves them running

Notes land; a model is trained, evaluated, gated, approved by a named user, and scores two days. The second day comes from
another hospital: drift is detected, reviewed notes have landed, and a second candidate is compared with the champion.
Finished work is skipped when the demo is run again.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import stack
from api import Api
from rich.console import Console
from rich.live import Live
from rich.markdown import Markdown
from rich.table import Table

USECASE = os.environ.get("LLMOPS_DEMO_USECASE", "triage")
LIMIT = float(os.environ.get("LLMOPS_DEMO_MINUTES", "60")) * 60  # seconds; a busy machine takes long
QUIET = 12  # seconds without a run, after which no asset will start another
GLANCE, GAZE = 2, 15  # seconds between two polls; each takes CPU time from a running model
FINAL = ("success", "failed", "skipped", "upstream_failed", "removed")
console = Console(width=None if sys.stdout.isatty() else 120)


class DemoError(Exception):
    """The demo cannot continue; the message says why."""


class Board:
    """The table of stages: state, progress and duration."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], tuple[str, str, float]] = {}

    def table(self) -> Table:
        """As rich shows it."""
        table = Table(title=f"Life cycle of '{USECASE}'")
        for column in ("stage", "run", "progress", "seconds"):
            table.add_column(column, justify="right" if column == "seconds" else "left")
        for (dag, run), (state, progress, seconds) in self.rows.items():
            colour = {"success": "green", "failed": "red", "running": "yellow"}.get(state, "white")
            table.add_row(dag, run, f"[{colour}]{progress}[/]", f"{seconds:.0f}")
        return table


class Demo:
    """One pass through the life cycle."""

    def __init__(self, api: Api, approver: Api) -> None:
        self.api, self.approver, self.board = api, approver, Board()
        self.seen = {(run["dag_id"], run["dag_run_id"]) for run in api.runs(*self.dags())}
        self.answered: set[tuple[str, str]] = set()
        self.end = time.monotonic() + LIMIT

    @staticmethod
    def dags() -> list[str]:
        """All stages of the use case, in order."""
        stages = ("prepare_data", "train", "evaluate", "promote", "batch_inference", "monitor", "rollback")
        return [f"{USECASE}.{name}" for name in stages]

    def start(self, stage: str, last: str, **conf: str) -> None:
        """Trigger a stage and follow all runs it causes: to the end of the stage `last`, or until none is left."""
        self.api.trigger(f"{USECASE}.{stage}", conf)
        with Live(self.board.table(), console=console, refresh_per_second=1, transient=not console.is_terminal) as live:
            self._follow(live, f"{USECASE}.{last}")
        if not console.is_terminal:
            console.print(self.board.table())

    def _follow(self, live: Live, last: str) -> None:
        quiet = 0.0
        while True:
            if time.monotonic() > self.end:
                raise DemoError(
                    f"Not finished after {LIMIT / 60:.0f} minutes. Check the web UI, or raise LLMOPS_DEMO_MINUTES."
                )
            ended, pause = self._look()
            live.update(self.board.table())
            self._answer(live)
            quiet = 0.0 if pause else quiet or time.monotonic()
            if last in ended or (quiet and time.monotonic() - quiet > QUIET):
                return
            time.sleep(pause or GLANCE)

    def _look(self) -> tuple[set[str], float]:
        """Update the board. Returns the DAGs whose run has ended, and the pause before the next poll (0: nothing runs)."""
        ended, pause = set[str](), 0.0
        for run in self.api.runs(*self.dags()):
            dag, number = run["dag_id"], run["dag_run_id"]
            if (dag, number) in self.seen:
                continue
            tasks = self.api.tasks(dag, number)
            self.board.rows[dag.split(".")[1], number] = (run["state"], *self._progress(run, tasks))
            if run["state"] == "failed":
                self._explain(dag, number, tasks)
            if run["state"] == "success":
                self.seen.add((dag, number))
                ended.add(dag)
            else:
                computing = any(task["pool"] == "compute" and task["state"] == "running" for task in tasks)
                pause = min(pause or GAZE, GAZE if computing else GLANCE)
        return ended, pause

    @staticmethod
    def _progress(run: dict[str, Any], tasks: list[dict[str, Any]]) -> tuple[str, float]:
        done = sum(task["state"] in FINAL for task in tasks)
        now = [
            task["task_id"]
            for task in tasks
            if task["state"] in ("running", "deferred", "awaiting_input", "up_for_retry")
        ]
        doing = f" {', '.join(sorted(set(now)))}" if now else ""
        start, end = (run[name] and datetime.fromisoformat(run[name]) for name in ("start_date", "end_date"))
        seconds = ((end or datetime.now(UTC)) - start).total_seconds() if start else 0.0
        return f"{done}/{len(tasks)} {run['state']}{doing}", seconds

    def _explain(self, dag: str, run: str, tasks: list[dict[str, Any]]) -> None:
        failed = [task for task in tasks if task["state"] == "failed"]
        for task in failed:
            log = self.api.log(dag, run, task["task_id"], task["try_number"])
            file = stack.home() / "logs" / f"{dag}.{task['task_id']}.log"
            file.write_text(log.replace("\\n", "\n"), encoding="utf-8")
            raise DemoError(f"{dag}, task '{task['task_id']}' failed. Its log is in {file}.")
        raise DemoError(f"{dag}, run {run} failed. See the web UI.")

    def _answer(self, live: Live) -> None:
        """Show the gate's table and approve as the user `approver`."""
        for question in self.approver.approvals():
            instance = question["task_instance"]
            key = (instance["dag_id"], instance["dag_run_id"])
            if not key[0].startswith(f"{USECASE}.") or key in self.answered:
                continue
            live.console.print(Markdown(question["body"]))
            live.console.print("[bold]approver[/] reads the table and answers: [green]Approve[/]")
            self.approver.answer(*key, instance["task_id"], "Approve")
            self.answered.add(key)

    def newest(self, stage: str, task: str) -> Any:
        """What a task returned in the newest successful run of its stage."""
        dag = f"{USECASE}.{stage}"
        run = [run for run in self.api.runs(dag) if run["state"] == "success"][-1]["dag_run_id"]
        return self.api.xcom(dag, run, task)


# ---------------------------------------------------------------- the scenario


def land_notes() -> list[str]:
    """Write the synthetic notes once; returns the two days."""
    from llmops_tasks.data import synthetic

    folder = stack.home() / "demo"
    if not (folder / "landing").exists():
        synthetic.write_triage(out=folder.as_uri())
    return sorted(path.name.removeprefix("date=") for path in (folder / "inbox").iterdir())


def land_reviewed() -> None:
    """Move the second hospital's reviewed notes into the landing area, atomically."""
    source, target = (
        stack.home() / "demo" / "reviewed" / "hospital_b.csv",
        stack.home() / "demo" / "landing" / "hospital_b.csv",
    )
    if not target.exists():
        part = target.with_suffix(".part")
        shutil.copyfile(source, part)
        part.rename(target)


def wait_for_dags(api: Api) -> None:
    """Wait until all DAGs are known, or a file cannot be parsed."""
    end = time.monotonic() + 180
    while not set(Demo.dags()) <= set(api.dags()):
        if problems := api.import_errors():
            raise DemoError("\n".join(problems))
        if time.monotonic() > end:
            raise DemoError(
                f"The DAGs of '{USECASE}' did not appear in 3 minutes. See {stack.home() / 'logs' / 'airflow.log'}."
            )
        time.sleep(2)


def ledger(*words: str) -> Any:
    """Query the ledger through the command line."""
    import json

    command = [sys.executable, "-m", "llmops_tasks", *words, USECASE, "--json"]
    return json.loads(
        subprocess.run(command, env=stack.environment(0), check=True, capture_output=True, text=True).stdout
    )


def summary(demo: Demo, days: list[str], started: float, cpu: float) -> None:
    """Print a summary."""
    chain = ledger("release", "read-ledger")
    gates = [entry["body"]["verdict"] for entry in chain if entry["kind"] == "gate"]
    champion = ledger("release", "find-champion")
    console.rule("Summary")
    table = Table(show_header=False)
    table.add_row("dataset version", demo.newest("prepare_data", "build_dataset")["sha256"][:12])
    for verdict in gates:
        table.add_row(
            f"model version {verdict['candidate_version']}", f"{verdict['verdict']}: {'; '.join(verdict['reasons'])}"
        )
    table.add_row("champion", f"version {champion['version']} ({champion['release']['sha256'][:12]})")
    for day in days:
        drift = next(
            entry["body"] for entry in reversed(chain) if entry["kind"] == "retrain" and entry["body"]["date"] == day
        )
        table.add_row(f"drift on {day}", f"{'ALARM' if drift['retrain'] else 'none'}: {'; '.join(drift['reasons'])}")
    table.add_row("predictions", f"{stack.home() / 'store' / USECASE / 'predictions'}")
    table.add_row("drift report", demo.newest("monitor", "measure")[-1]["report"]["uri"] + "/report.html")
    table.add_row(
        "ledger, last entries", "\n".join(f"{e['seq']} {e['time']} {e['kind']} {e['sha256'][:12]}" for e in chain[-5:])
    )
    table.add_row("time", f"{time.monotonic() - started:.0f} s, CPU time {cpu:.0f} s")
    state = stack.status()
    table.add_row("Airflow", f"{state['airflow']}  (user admin, password {stack.password('admin')})")
    table.add_row("MLflow", state["mlflow"])
    console.print(table)
    shares(demo, time.monotonic() - started)
    check(champion, chain, days)


def shares(demo: Demo, total: float) -> None:
    """Print every stage's share of the time."""
    used: dict[str, float] = {}
    for (name, _), (_, _, seconds) in demo.board.rows.items():
        used[name] = used.get(name, 0) + seconds
    console.print(
        "share of the time: "
        + ", ".join(f"{name} {seconds:.0f} s ({seconds / total:.0%})" for name, seconds in used.items())
    )


def check(champion: dict[str, Any], chain: list[dict[str, Any]], days: list[str]) -> None:
    """Fail if the demo did not show what it should."""
    decisions = {entry["body"]["date"]: entry["body"] for entry in chain if entry["kind"] == "retrain"}
    gates = [entry for entry in chain if entry["kind"] == "gate"]
    problems = []
    if champion["version"] is None:
        problems.append("no candidate was promoted")
    if decisions[days[0]]["retrain"] or not decisions[days[1]]["retrain"]:
        problems.append("drift should have been detected on the second day only")
    if len(gates) < 2:
        problems.append("no second candidate was evaluated")
    if problems:
        raise DemoError("; ".join(problems))


def main() -> int:
    """Run the demo."""
    started = time.monotonic()
    try:
        console.print("Starting Airflow and MLflow ...")
        state = stack.up()
        cpu = stack.cpu_seconds()
        api, approver = (Api(state["airflow"], user, stack.password(user)) for user in ("admin", "approver"))
        days = land_notes()
        wait_for_dags(api)
        console.print(f"Airflow {state['airflow']}   MLflow {state['mlflow']}   ({time.monotonic() - started:.0f} s)")
        demo = Demo(api, approver)
        demo.start("prepare_data", last="promote")
        demo.start("batch_inference", last="monitor", date=days[0])
        land_reviewed()
        demo.start("batch_inference", last="promote", date=days[1])
        summary(demo, days, started, stack.cpu_seconds() - cpu)
    except (stack.StackError, DemoError) as exc:
        console.print(f"[red]The demo stopped:[/] {exc}")
        return 1
    return 0


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent.parent))
    os.environ.setdefault("LLMOPS_HOME", str(stack.home()))
    sys.exit(main())
