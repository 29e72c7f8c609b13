import threading
import time
from dataclasses import dataclass, field

import pytest

from tritstream.golden.checkpoints.safetensors_writer import Place
from tritstream.golden.jobs.local import in_flight
from tritstream.golden.jobs.step import one_by_one


@dataclass
class Watch:
    """Memory of all running steps, now and at most."""

    held: int = 0
    most: int = 0
    flying: int = 0
    concurrent: int = 0
    started: list = field(default_factory=list)
    ended: list = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def change(self, memory, count):
        with self.lock:
            self.held, self.flying = self.held + memory, self.flying + count
            self.most = max(self.most, self.held)
            self.concurrent = max(self.concurrent, self.flying)


@dataclass
class Sleep:
    """Step that holds memory for a while, then fails if required.

    It ends only after the steps ``wait_for`` have started, so that the overlap of steps does not
    depend on time, and after ``last`` other steps have ended.
    """

    watch: Watch
    name: str
    memory: int
    seconds: float = 0.02
    fails: bool = False
    wait_for: tuple[str, ...] = ()
    last: int = 0

    def __call__(self):
        self.watch.change(self.memory, 1)
        self.watch.started.append(self.name)
        hang = time.monotonic() + 300
        while (not set(self.wait_for) <= set(self.watch.started)
               or len(self.watch.ended) < self.last):
            assert time.monotonic() < hang, f"{self.name} waits in vain"
            time.sleep(0.001)
        time.sleep(self.seconds)
        self.watch.change(-self.memory, -1)
        self.watch.ended.append(self.name)
        if self.fails:
            raise ValueError(self.name)
        return {"of": self.name}


def steps(watch, memories, **options):
    return {f"s{n}": Sleep(watch, f"s{n}", memory, **options) for n, memory in enumerate(memories)}


@pytest.mark.parametrize("run", [in_flight, one_by_one])
def test_every_step_is_done_once(run):
    watch = Watch()
    todo = steps(watch, [1] * 20)
    if run is in_flight:
        for number in range(17):
            todo[f"s{number}"].wait_for = tuple(f"s{number + more}" for more in (1, 2, 3))
    assert dict(run(todo)) == {name: {"of": name} for name in todo}
    if run is one_by_one:
        assert watch.started == list(todo)
    assert sorted(watch.started) == sorted(todo)
    assert watch.concurrent == (1 if run is one_by_one else 4)


@pytest.mark.parametrize(("memories", "most", "concurrent", "wait_for"), [
    ([40] * 8, 80, 2, {f"s{number}": f"s{number + 1}" for number in range(7)}),
    ([100, 1, 1, 100, 1], 100, 2, {"s1": "s2"}),
    ([300, 10, 300], 300, 1, {}),           # more than the budget: alone
])
def test_budget_of_memory(memories, most, concurrent, wait_for):
    watch = Watch()
    todo = steps(watch, memories)
    for name, other in wait_for.items():
        todo[name].wait_for = (other,)
    assert len(list(in_flight(todo, budget=100))) == len(memories)
    assert watch.most == most
    assert watch.concurrent == concurrent


def test_a_slow_step_does_not_keep_others():
    watch = Watch()
    todo = {"slow": Sleep(watch, "slow", 1, last=8)} | steps(watch, [1] * 8)
    assert [name for name, _ in in_flight(todo)][-1] == "slow"


def test_no_step_starts_after_a_failure():
    watch = Watch()
    # All other steps wait for the one that fails, and then long enough for it to be noticed.
    todo = steps(watch, [1] * 30, last=1, seconds=0.5)
    todo["s3"] = Sleep(watch, "s3", 1, seconds=0, fails=True)
    with pytest.raises(ValueError, match="^s3$"):
        list(in_flight(todo))
    assert len(watch.started) < 12
    assert watch.flying == 0


def test_no_step_starts_without_a_consumer():
    watch = Watch()
    records = in_flight(steps(watch, [1] * 30))
    next(records)
    records.close()
    started = len(watch.started)
    time.sleep(0.1)
    assert started == len(watch.started) < 12
    assert watch.flying == 0


@pytest.mark.parametrize("pieces", [[b"abc"], [b"abc", b"de"], []])
def test_a_place_takes_just_its_bytes(tmp_path, pieces):
    path = tmp_path / "x"
    path.write_bytes(b"." * 10)
    size = sum(map(len, pieces))
    with pytest.raises(ValueError, match=rf"^{path}: 4 bytes are expected at 3, not {size}$"):
        Place(path, 3, 4).write(pieces)


def test_a_large_tensor_is_synchronized_on_its_way(tmp_path, monkeypatch):
    monkeypatch.setattr("tritstream.golden.checkpoints.safetensors_writer._AT_ONCE", 4)
    synced = []
    monkeypatch.setattr("os.fdatasync", lambda file: synced.append(file))
    path = tmp_path / "x"
    path.write_bytes(b"." * 12)
    assert Place(path, 1, 10).write([b"abc", b"def", b"ghi", b"j"]) == 0x3981703A
    assert path.read_bytes() == b".abcdefghij."
    assert len(synced) == 2             # after six bytes and after ten
