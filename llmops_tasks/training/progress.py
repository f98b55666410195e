"""Progress of a run: reported in the log and in MLflow, kept in checkpoints, resumed from the newest complete one."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial

from llmops_tasks import tracking
from llmops_tasks.training import checkpoints, processes
from llmops_tasks.training.trainable import State

log = logging.getLogger(__name__)
LOG_EVERY = 10  # steps


@dataclass(frozen=True)
class Progress:
    """Progress of one member of a run. With several processes the first one reports and writes for all."""

    usecase: str
    run: str  # what identifies its checkpoints
    mlflow_run: str
    total: int  # steps
    checkpoint_every: int  # steps
    fits: str  # digest of the steps and of what they change: checkpoints of others are not gone on from
    code: str  # digest of the sources that make the steps
    began: str  # key of the MLflow run
    checkpoint_minutes: float | None = None
    prefix: str = ""  # of its metrics

    def resume(self, state: State) -> int:
        """Put the newest whole checkpoint into the state; returns the steps made until then."""
        newest = partial(
            checkpoints.resume, trained=state.trained, optimizer=state.optimizer, best=state.held_out.weights
        )
        find = partial(newest, usecase=self.usecase, run=self.run, fits=self.fits)
        done, kept = processes.first_then_others(find)
        if done:
            state.losses, state.parts, state.code = kept["losses"], kept["parts"], kept["code"]
            state.held_out.losses = [(step, loss) for step, loss in kept.get("held_out", [])]
            state.meter.go_on_from(kept["spent"])
        self._note_code(state, int(done))
        return int(done)

    def _note_code(self, state: State, done: int) -> None:
        """Newer code continues from earlier steps: a deployment costs no step, and is recorded."""
        if not state.code or state.code[-1][1] != self.code:
            if state.code:
                log.warning("the code has changed since step %d: continuing; the result records it", done)
            state.code = [*state.code, (done, self.code)]

    def after_step(self, state: State, made: int, speed: float, left: float) -> None:
        """To be called after every step, with the number of steps made, tokens/s and seconds left."""
        state.writer.check()
        if not processes.rank() and (made % LOG_EVERY == 0 or made == self.total):
            self._tell(state, made, speed, left)
        if self._is_due(state, made) and made < self.total:
            self._save(state, made)
            state.written = time.monotonic()

    def _is_due(self, state: State, made: int) -> bool:
        if made % self.checkpoint_every == 0 or self.checkpoint_minutes is None:
            return made % self.checkpoint_every == 0
        late = (time.monotonic() - state.written) / 60 >= self.checkpoint_minutes
        return processes.total(float(late and not processes.rank())) > 0  # the first process's clock counts

    def _save(self, state: State, made: int) -> None:
        """A copy is taken now, by all processes, and written by the first while the next steps are made."""
        if processes.rank() and not state.sharded:
            return
        meta = {"losses": list(state.losses), "parts": state.parts, "spent": state.meter.spent(), "code": state.code}
        meta |= {"fits": self.fits, "began": self.began, "held_out": list(state.held_out.losses)}
        tensors = checkpoints.snapshot(state.trained, state.optimizer, state.held_out.weights)
        if processes.rank():
            return
        save = partial(checkpoints.save, usecase=self.usecase, run=self.run, step=made, tensors=tensors, meta=meta)
        state.writer.start(save)

    def _tell(self, state: State, made: int, speed: float, left: float) -> None:
        recent = state.losses[-LOG_EVERY:]
        loss = sum(recent) / len(recent)
        log.info("step %d/%d loss %.4f %.0f tokens/s, %.0f s left", made, self.total, loss, speed, left)
        values = {f"{self.prefix}loss": loss, f"{self.prefix}tokens_per_second": speed}
        tracking.Run(self.mlflow_run).metrics(values, step=made)

    def clear(self) -> None:
        """Drop the checkpoints of a finished run."""
        checkpoints.clear(usecase=self.usecase, run=self.run)
