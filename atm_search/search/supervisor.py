"""Worker processes of one machine: started, watched, started again, stopped."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from atm_search.errors import AtmSearchError, InputError
from atm_search.search.heartbeat import Sweeper
from atm_search.search.history import History
from atm_search.search.interrupts import Interrupts
from atm_search.search.store import store_errors
from atm_search.search.study import Study
from atm_search.search.trials import TrialRecord
from atm_search.search.worker import OnTrial, OnWait, Outcome

POLL_S = 0.5
MAX_RESTARTS = 5
"""Starts of a worker after crashes in a row."""
STEADY_S = 60.0
"""A worker that ran so long before it crashed begins to count anew."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Before a crashed worker is started again; every pause is twice the one before."""
LINGER_S = 10.0
"""How long workers may take to see that the budget is spent."""

REFUSED, INTERRUPTED = 2, 130
"""Exit codes of a worker that cannot work, and of one that was asked to stop."""

OnNote = Callable[[str], None]
"""Told of workers that crash, cannot work or are started again, in a sentence."""


@dataclass(frozen=True)
class Command:
    """How to start one worker."""

    argv: Sequence[str]
    """Without secrets: every user of the machine can read it."""
    environment: Mapping[str, str]
    """Added to this process's own."""


def supervise(
    study: Study,
    commands: Sequence[Command],
    *,
    on_trial: OnTrial | None = None,
    on_wait: OnWait | None = None,
    on_note: OnNote | None = None,
    max_restarts: int = MAX_RESTARTS,
) -> Outcome:
    """Run workers as processes until the study's budget is spent.

    A worker that crashes is started again, after a pause that grows; one that cannot work is not.
    A signal is passed on, and workers hand back their trials; a second one kills them. A worker's
    standard input stays open as long as this process lives, so that it can follow it.

    Args:
        study: what the workers work on; only read here, and swept of dead workers' trials.
        commands: one for each worker.
        on_trial: told of every trial of the study that ended, whoever ran it.
        on_wait: told, twice a second, how many trials run and are done.
        on_note: told what happens to workers.
        max_restarts: starts of a worker after crashes in a row.

    Returns:
        How the study stands.

    Raises:
        InputError: every worker refused to work; the message is the last one's reason.
        AtmSearchError: no worker is left, and the budget is not spent.
    """
    workers = [_Worker(command, max_restarts, on_note or _ignore) for command in commands]
    with store_errors(study.storage), Interrupts() as interrupts:
        study.storage.hurried = lambda: interrupts.requested
        history = History(study)
        history.refresh()
        watch = _Watch(study, history, on_trial, on_wait)
        try:
            _tend(workers, watch, interrupts)
        finally:
            for worker in workers:
                worker.kill()
            watch.sweep_now()
    done, total = history.done, study.plan.budget
    if interrupts.requested:
        return Outcome(done, total, interrupted=done < total)
    if done < total and not history.is_exhausted:
        raise _nobody_left(study.name, workers)
    return Outcome(done, total, exhausted=done < total)


def _tend(workers: "Sequence[_Worker]", watch: "_Watch", interrupts: Interrupts) -> None:
    """Look after workers until all have ended for good."""
    finished_at = None
    while True:
        finished = watch.look()
        if finished and finished_at is None:
            finished_at = time.monotonic()
        stopping = finished or interrupts.requested
        for worker in workers:
            worker.tend(may_start=not stopping)
            if interrupts.requested:
                worker.stop()
        if all(worker.is_over for worker in workers):
            watch.look()
            return
        if finished_at is not None and time.monotonic() - finished_at > LINGER_S:
            return
        with suppress(KeyboardInterrupt), interrupts.admitted():
            time.sleep(POLL_S)
        if interrupts.requested:
            time.sleep(POLL_S / 5)  # `admitted` does not wait any more


class _Watch:
    """The study as it is seen from here: tells what ended, and sweeps."""

    def __init__(
        self, study: Study, history: History, on_trial: OnTrial | None, on_wait: OnWait | None
    ) -> None:
        self._study = study
        self._history = history
        self._on_trial = on_trial
        self._on_wait = on_wait
        self._told = {trial.number for trial in history.trials if trial.state.is_finished()}
        self._done = history.done
        self._sweeper = Sweeper(study, history)

    def look(self) -> bool:
        """Tell what has ended since the last look, by number; whether nothing is left to do."""
        self._sweeper.sweep()
        self._history.refresh()
        budget = self._study.plan.budget
        for trial in self._history.trials:
            if trial.state.is_finished() and trial.number not in self._told:
                self._told.add(trial.number)
                self._tell(TrialRecord.of(trial), budget)
        if self._on_wait is not None:
            self._on_wait(len(self._history.running), self._done, budget)
        return self._history.done >= budget or self._history.is_exhausted

    def sweep_now(self) -> None:
        """Queue what killed workers left, now that they are gone for certain."""
        self._history.refresh()
        self._sweeper = Sweeper(self._study, self._history)
        self._sweeper.sweep()

    def _tell(self, record: TrialRecord, budget: int) -> None:
        self._done += record.measured
        if self._on_trial is not None and not record.surplus:
            self._on_trial(record, self._done, budget)


class _Worker:
    """One worker, over all processes that stand in for it in turn."""

    def __init__(self, command: Command, max_restarts: int, note: OnNote) -> None:
        self._command = command
        self._max_restarts = max_restarts
        self._note = note
        self._process: subprocess.Popen[bytes] | None = None
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - read when the process has ended
        self._crashes = 0
        self._started_at = self._start_at = time.monotonic()
        self._stopped = False
        self.is_over = False
        self.exit_code: int | None = None
        self.reason = ""

    def tend(self, *, may_start: bool) -> None:
        """Start the process if it is time to, or note that it has ended."""
        if self.is_over:
            return
        if self._process is None:
            if not may_start:
                self.is_over = True
            elif time.monotonic() >= self._start_at:
                self._start()
            return
        code = self._process.poll()
        if code is not None:
            self._close()
            self._ended(code, may_start)

    def stop(self) -> None:
        """Ask the process, once, to hand back its trial and end."""
        if self._process is not None and not self._stopped:
            self._stopped = True
            self._process.send_signal(signal.SIGTERM)
            self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the process at once, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._close()
        self._said.close()

    def _start(self) -> None:
        self._said.seek(0)
        self._said.truncate()
        self._process = subprocess.Popen(
            self._command.argv,
            env={**os.environ, **self._command.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            start_new_session=True,  # a terminal's Ctrl-C comes once, through us
        )
        self._started_at = time.monotonic()

    def _close(self) -> None:
        assert self._process is not None
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None

    def _ended(self, code: int, may_start: bool) -> None:
        self.exit_code = code
        if code in (0, INTERRUPTED) or not may_start:
            self.is_over = True
            return
        line = self._last_line()
        on_purpose = line.startswith("atm-search: ")
        killed = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        self.reason = line.removeprefix("atm-search: ") if on_purpose else line or killed
        if code == REFUSED or on_purpose:
            self.is_over = True
            self._note(f"A worker stopped: {self.reason}")
            return
        if time.monotonic() - self._started_at > STEADY_S:
            self._crashes = 0
        self._crashes += 1
        if self._crashes > self._max_restarts:
            self.is_over = True
            self._note(f"A worker crashed {self._crashes} times, the last time: {self.reason}")
            return
        pause_s = min(FIRST_PAUSE_S * 2 ** (self._crashes - 1), LONGEST_PAUSE_S)
        self._start_at = time.monotonic() + pause_s
        self._note(f"A worker crashed ({killed}) and is started again in {pause_s:g} s.")

    def _last_line(self) -> str:
        """The last line of what the process said, as long as a line may be."""
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - 4000))
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:1000] if lines else ""


def _nobody_left(name: str, workers: "Sequence[_Worker]") -> AtmSearchError:
    reasons = list(dict.fromkeys(worker.reason for worker in workers if worker.reason))
    said = " ".join(reasons) or "all were stopped."
    kind = InputError if all(worker.exit_code == REFUSED for worker in workers) else AtmSearchError
    return kind(f"No worker is left for study '{name}': {said}")


def _ignore(note: str) -> None:
    pass
