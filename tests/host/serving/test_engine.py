"""Many texts at a time: each is that of a single run, whatever happens to the others."""

from threading import Event, Semaphore

import pytest

from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.host.errors import DeviceError
from tritstream.host.model.backends import Backend, Cost, GoldenBackend, ReferenceBackend
from tritstream.host.model.generation import CHUNK, Generation, generate_text
from tritstream.host.model.load import load_model, load_tokenizer
from tritstream.host.model.sampling import GREEDY, Sampling
from tritstream.host.protocol.records import Stats
from tritstream.host.serving import engine as engine_module
from tritstream.host.serving.engine import Busy, Cancelled, Engine, Job, Stopped
from tritstream.host.serving.sharing import SharedBackend

from support.golden_helpers import message
from support.model_helpers import MODEL

PROMPTS = ["She had always wished", "No one", "Elizabeth " * 30, "It is a truth", "Mr."]
SAMPLINGS = [GREEDY, Sampling(1.0, seed=7), GREEDY, Sampling(0.7, 0.9, 20, 3), GREEDY]
TOKENS = 6


class Watched(Backend):
    """Golden's products, which count vectors and can fail or wait."""

    def __init__(self):
        self.inner, self.batches, self.cost = GoldenBackend(), [], Cost()
        self.error, self.gate, self.entered = None, None, Event()

    def prepare(self, checkpoint, name):
        product = self.inner.prepare(checkpoint, name)

        def multiply(x):
            self.entered.set()
            if self.gate:
                assert self.gate.acquire(timeout=300)
            if self.error:
                raise self.error
            self.batches.append(len(x))
            self.cost += Cost(Stats(cycles=100))
            return product(x)

        return multiply

    def take_cost(self):
        cost, self.cost = self.cost, Cost()
        return cost


class Reader:
    """What a job gives."""

    def __init__(self, prompt, sampling=GREEDY, tokens=TOKENS, stops=()):
        self.text, self.end, self.ended, self.begun = "", None, Event(), Event()
        self.job = Job(prompt, tokens, sampling, stops, self._receive)

    def _receive(self, event):
        self.begun.set()
        if isinstance(event, str):
            self.text += event
        else:
            assert self.end is None
            self.end = event
            self.ended.set()

    def result(self):
        assert self.ended.wait(300)
        return self.end


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d3"
    pack_checkpoint(MODEL, path, 3)
    return path


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(MODEL)


@pytest.fixture(scope="module")
def prompts(tokenizer):
    return [tokenizer(text).input_ids for text in PROMPTS]


@pytest.fixture(scope="module")
def singles(packed, tokenizer, prompts):
    model = load_model(packed, backend="golden")
    return [generate_text(model, tokenizer, ids, TOKENS, emit=lambda text: None, take_cost=Cost,
                          sampling=sampling)
            for ids, sampling in zip(prompts, SAMPLINGS, strict=True)]


@pytest.fixture
def watched():
    return Watched()


@pytest.fixture
def model(packed, watched):
    return load_model(packed, backend=SharedBackend(watched))


def test_texts_are_those_of_single_runs(model, watched, tokenizer, prompts, singles):
    readers = [Reader(ids, sampling) for ids, sampling in zip(prompts, SAMPLINGS, strict=True)]
    watched.gate = Semaphore(0)         # no text ends before all have begun
    with Engine(model, tokenizer, 3) as engine:
        for reader in readers:
            engine.submit(reader.job)
        watched.gate.release(100_000)
        for reader, single in zip(readers, singles, strict=True):
            assert reader.result().tokens == single.tokens
            assert reader.text == single.text == reader.end.text
        figures = engine.figures()
    assert (figures.finished, figures.failed, figures.cancelled) == (5, 0, 0)
    # All of the cost is somewhere: 28 matrices, 100 cycles for each batch.
    cost = figures.prefill.cost + figures.decode.cost
    assert cost.stats.cycles == 100 * len(watched.batches)
    assert figures.prefill.tokens == sum(map(len, prompts))
    assert figures.decode.tokens == sum(len(single.tokens) - 1 for single in singles)
    assert sum(watched.batches) == 28 * (figures.prefill.tokens + figures.decode.tokens)
    # Three texts at a time share a batch, and a long prompt is read in parts.
    assert 3 in watched.batches and max(watched.batches) <= CHUNK + 2 * max(map(len, prompts[:2]))


def test_reference_does_not_share_sums_of_floats(packed, tokenizer, prompts):
    plain = load_model(packed)
    shared = load_model(packed, backend=SharedBackend(ReferenceBackend()))
    readers = [Reader(ids) for ids in prompts[:3]]
    with Engine(shared, tokenizer, 3) as engine:
        for reader in readers:
            engine.submit(reader.job)
        for reader in readers:
            assert reader.result().tokens == generate_text(
                plain, tokenizer, reader.job.prompt, TOKENS, emit=lambda text: None,
                take_cost=Cost).tokens


def test_a_cancelled_text_ends_before_its_next_pass(
        model, watched, tokenizer, prompts, singles):
    with Engine(model, tokenizer, 2) as engine:
        gone, stays, later = Reader(prompts[0], tokens=400), Reader(prompts[1], SAMPLINGS[1]), \
            Reader(prompts[4])
        for reader in (gone, stays, later):
            engine.submit(reader.job)
        assert gone.begun.wait(300)
        gone.job.is_cancelled = True
        assert isinstance(gone.result(), Cancelled)
        assert stays.result().tokens == singles[1].tokens
        assert later.result().tokens == singles[4].tokens
        assert engine.figures().cancelled == 1
    count = len(watched.batches)
    # A job that is cancelled before its turn uses the device not at all.
    with Engine(model, tokenizer, 1) as engine:
        early = Reader(prompts[0])
        early.job.is_cancelled = True
        engine.submit(early.job)
        assert isinstance(early.result(), Cancelled)
    assert len(watched.batches) == count


def test_a_device_that_fails_ends_the_texts_and_not_the_engine(
        model, watched, tokenizer, prompts, singles):
    with Engine(model, tokenizer, 2) as engine:
        watched.error = DeviceError("gone")
        readers = [Reader(ids) for ids in prompts[:2]]
        for reader in readers:
            engine.submit(reader.job)
        assert [str(reader.result()) for reader in readers] == ["gone"] * 2
        assert (engine.figures().failed, engine.figures().fault) == (2, "gone")
        watched.error = None
        engine.submit((again := Reader(prompts[0])).job)
        assert again.result().tokens == singles[0].tokens
        assert (engine.figures().finished, engine.figures().fault) == (1, None)


def test_one_text_that_fails_is_alone_in_that(model, tokenizer, prompts, singles):
    with Engine(model, tokenizer, 2) as engine:
        wrong, right = Reader(prompts[0], tokens=600), Reader(prompts[0])
        engine.submit(wrong.job)
        engine.submit(right.job)
        assert isinstance(wrong.result(), ValueError)
        assert right.result().tokens == singles[0].tokens


def test_the_end_of_an_engine_is_the_end_of_all_jobs(model, watched, tokenizer, prompts):
    readers = [Reader(prompts[0], tokens=400) for _ in range(3)]
    watched.gate = Semaphore(0)
    engine = Engine(model, tokenizer, 1)
    with engine:
        for reader in readers:
            engine.submit(reader.job)
        assert watched.entered.wait(300)
        assert (engine.figures().running, engine.figures().waiting) == (1, 2)
        engine._is_closed = True
        watched.gate.release(1000)
    for reader in readers:
        assert isinstance(reader.result(), Stopped)
    with pytest.raises(Stopped, match=message("the server has stopped")):
        engine.submit(readers[0].job)


def test_too_many_jobs(model, watched, tokenizer, prompts, monkeypatch):
    monkeypatch.setattr(engine_module, "MAX_WAITING", 2)
    watched.gate = Semaphore(0)
    with Engine(model, tokenizer, 1) as engine:
        engine.submit(Reader(prompts[0]).job)
        assert watched.entered.wait(300)
        for _ in range(2):
            engine.submit(Reader(prompts[0]).job)
        with pytest.raises(Busy, match=message("2 requests are waiting; try again later")):
            engine.submit(Reader(prompts[0]).job)
        watched.gate.release(10_000)


def test_stop_texts_and_lengths(model, tokenizer, prompts, singles):
    stop = singles[0].text[3:8]
    with Engine(model, tokenizer, 2) as engine:
        engine.submit((stopped := Reader(prompts[0], stops=[stop])).job)
        engine.submit((cut := Reader(prompts[0], tokens=3)).job)
        assert stopped.result().text == singles[0].text.partition(stop)[0]
        assert isinstance(cut.result(), Generation) and cut.end.is_cut and not stopped.end.is_cut


def test_no_texts_at_a_time(model, tokenizer):
    with pytest.raises(ValueError, match=message(
            "the number of texts in progress must be at least 1, not 0")):
        Engine(model, tokenizer, 0)
