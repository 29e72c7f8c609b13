from concurrent.futures import ThreadPoolExecutor
from threading import Event
from time import sleep

import pytest

from tritstream.golden import row_chunks as chunks_module
from tritstream.golden.row_chunks import in_threads, row_chunks, run_in_threads


@pytest.mark.parametrize("multiple", [1, 5])
@pytest.mark.parametrize(("rows", "columns"), [
    (1, 1), (7, 100), (1000, 1000), (1003, 4864), (20, 1 << 20),
])
def test_chunks_cover_the_rows_in_order(rows, columns, multiple):
    chunks = list(row_chunks(rows, columns, multiple))
    assert [n for chunk in chunks for n in range(rows)[chunk]] == list(range(rows))
    assert chunks[-1].stop == rows
    for chunk in chunks:
        count = chunk.stop - chunk.start
        assert chunk.start % multiple == 0
        assert count <= multiple or count * columns <= 1 << 18


def test_chunks_are_as_large_as_allowed():
    assert list(row_chunks(600, 1 << 10)) == [slice(0, 256), slice(256, 512), slice(512, 600)]
    assert list(row_chunks(600, 1 << 10, 5)) == [slice(0, 255), slice(255, 510), slice(510, 600)]
    assert list(row_chunks(12, 1 << 20, 5)) == [slice(0, 5), slice(5, 10), slice(10, 12)]


def test_threads_keep_the_order():
    def work(chunk):
        sleep(0.001 * (chunk.start % 3))
        return chunk.start

    starts = list(range(0, 40, 4))
    assert list(in_threads(work, (slice(n, n + 4) for n in starts))) == starts
    assert list(in_threads(work, [slice(4, 8)])) == [4]
    assert list(in_threads(work, [])) == []


@pytest.mark.parametrize("count", [1, 9])
def test_errors_of_threads_are_those_of_the_work(count):
    def work(chunk):
        raise ValueError(f"row {chunk}")

    with pytest.raises(ValueError, match="^row 0$"):
        run_in_threads(work, range(count))


def test_threads_end_with_the_caller(monkeypatch):
    """Only the chunks that had started when the caller ended are done."""
    ending, done = Event(), []

    class Pool(ThreadPoolExecutor):
        def shutdown(self, *arguments, **options):
            ending.set()
            super().shutdown(*arguments, **options)

    def work(number):
        assert not number or ending.wait(300)
        done.append(number)

    monkeypatch.setattr(chunks_module, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    for _ in in_threads(work, range(1000)):
        break
    assert len(done) <= 1 + 3
