"""Engine that generates many texts at a time with one model, in a thread of its own."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from threading import Condition, Thread

import torch
from greenlet import getcurrent
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tritstream.host.errors import HostError
from tritstream.host.model.generation import Generation, Phase, continue_text
from tritstream.host.model.sampling import Sampling
from tritstream.host.model.settings import only_used
from tritstream.host.serving.sharing import Text, run_step

__all__ = ["MAX_WAITING", "Busy", "Cancelled", "Engine", "Event", "Figures", "Job", "Stopped"]

#: Jobs that may wait for their turn.
MAX_WAITING = 1000

_STOPPED = "the server has stopped"

#: What a job gives: parts of its text, then the result or an error.
Event = str | Generation | Exception


def _ignore(_: Event) -> None:
    pass


class Busy(Exception):
    """Too many jobs wait."""


class Stopped(Exception):
    """The engine has stopped, so the job was not done."""


class Cancelled(Exception):
    """Nobody waits for the text of a job any more."""


@dataclass
class Job:
    """A text to generate.

    Members
    -------
    prompt : list of int
        Token ids.
    count : int
        Maximum number of tokens to generate.
    sampling : Sampling
    stops : sequence of str
        Texts before the first of which the text ends.
    receive : callable
        Called in the thread of the engine with each part of the text, then with the
        :class:`.Generation` or an error.
    is_cancelled : bool
        Set it to end the job before its next pass through the model.
    """

    prompt:       list[int]
    count:        int
    sampling:     Sampling
    stops:        Sequence[str]
    receive:      Callable[[Event], None] = _ignore
    is_cancelled: bool = False


@dataclass(frozen=True)
class Figures:
    """State of an engine.

    Members
    -------
    running, waiting : int
        Jobs in progress, and jobs that wait for their turn.
    finished, cancelled, failed : int
        Jobs that have ended.
    prefill, decode : Phase
        Passes of the finished jobs, as in :class:`.Generation`.
    fault : str or None
        Error of the device in the last job that ended.
    """

    running:   int = 0
    waiting:   int = 0
    finished:  int = 0
    cancelled: int = 0
    failed:    int = 0
    prefill:   Phase = field(default_factory=Phase)
    decode:    Phase = field(default_factory=Phase)
    fault:     str | None = None


class Engine:
    """Generator of many texts at a time: continuous batching.

    In each step, every text in progress makes one pass through the model. The texts share the
    products with packed matrices: :mod:`.sharing`. A text that begins or ends does so between two
    steps. Each text is exactly that of :func:`.generate_text` for the same job.

    Use it in a ``with`` statement; leaving ends all jobs.

    Parameters
    ----------
    model : PreTrainedModel
        Model of :func:`.load_model` with a :class:`.SharedBackend`. Only the engine uses it.
    tokenizer : PreTrainedTokenizerBase
    parallel : int
        Maximum number of texts in progress.
    """

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, parallel: int):
        if parallel < 1:
            raise ValueError(f"the number of texts in progress must be at least 1, not {parallel}")
        self._model, self._tokenizer, self.parallel = model, tokenizer, parallel
        self._running: list[tuple[Job, Text]] = []
        self._waiting: deque[Job] = deque()
        self._figures, self._is_closed = Figures(), False
        self._changed = Condition()
        self._thread = Thread(target=self._run, name="engine", daemon=True)

    def __enter__(self) -> "Engine":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def submit(self, job: Job) -> None:
        """Queue a job; raise :class:`Busy` or :class:`Stopped` if it cannot be done."""
        with self._changed:
            if self._is_closed:
                raise Stopped(_STOPPED)
            if len(self._waiting) >= MAX_WAITING:
                raise Busy(f"{MAX_WAITING} requests are waiting; try again later")
            self._waiting.append(job)
            self._changed.notify()

    def figures(self) -> Figures:
        """Return the state of the engine."""
        with self._changed:
            return replace(self._figures, running=len(self._running), waiting=len(self._waiting))

    def _run(self) -> None:
        hooks = [self._model.register_forward_pre_hook(lambda *_: _in_text(Text.wait_for_step)),
                 self._model.register_forward_hook(lambda *_: _in_text(Text.end_pass))]
        try:
            with torch.no_grad(), only_used(self._model):
                while self._admit():
                    run_step([text for _, text in self._running])
                    self._end_cancelled()
        finally:
            self._end_all()
            for hook in hooks:
                hook.remove()

    def _admit(self) -> bool:
        """Wait for jobs, and begin texts while there is room; return False at the end."""
        with self._changed:
            while not (self._waiting or self._running or self._is_closed):
                self._changed.wait()
            while self._waiting and len(self._running) < self.parallel and not self._is_closed:
                self._running.append((job := self._waiting.popleft(), self._text(job)))
        for _, text in self._running:
            if not text.is_begun:
                text.begin()
        self._end_cancelled()
        return not self._is_closed

    def _text(self, job: Job) -> Text:
        def run() -> None:
            try:
                result = continue_text(
                    self._model, self._tokenizer, job.prompt, job.count, emit=job.receive,
                    take_cost=text.take_cost, sampling=job.sampling, stops=job.stops)
            except Exception as error:
                self._count_error(error)
                job.receive(error)
            else:
                self._count(result)
                job.receive(result)

        text = Text(run)
        return text

    def _end_cancelled(self) -> None:
        """End the texts whose jobs are cancelled, and forget the texts that have ended."""
        for job, text in self._running:
            if job.is_cancelled and not text.dead:
                text.fail(Cancelled("the client has left"))
        with self._changed:
            self._running = [(job, text) for job, text in self._running if not text.dead]

    def _end_all(self) -> None:
        with self._changed:
            self._is_closed = True
            running, waiting, self._running = self._running, list(self._waiting), []
            self._waiting.clear()
        for _, text in running:
            if not text.dead:
                text.fail(Stopped(_STOPPED))
        for job in waiting:
            job.receive(Stopped(_STOPPED))

    def _count(self, result: Generation) -> None:
        with self._changed:
            found = self._figures
            self._figures = replace(
                found, finished=found.finished + 1, fault=None,
                prefill=found.prefill + result.prefill, decode=found.decode + result.decode)

    def _count_error(self, error: Exception) -> None:
        with self._changed:
            found = self._figures
            if isinstance(error, Cancelled):
                self._figures = replace(found, cancelled=found.cancelled + 1)
                return
            fault = str(error) if isinstance(error, HostError) else found.fault
            self._figures = replace(found, failed=found.failed + 1, fault=fault)


def _in_text(what: Callable[[Text], None]) -> None:
    """Call a function with the text in which the model runs, if it runs in one."""
    if isinstance(text := getcurrent(), Text):
        what(text)
