"""The event loop of callers that cannot await: threads, interrupts, errors."""

import asyncio
import signal
from threading import Barrier, Thread, current_thread, main_thread

import pytest

from tritstream.host.own_loop import OwnLoop


async def thread():
    return current_thread()


async def inside(loop, work, *arguments):
    """Call the loop as a notebook does, whose own loop is running."""
    return loop.run(work, *arguments)


def run_plain(loop, work, *arguments):
    return loop.run(work, *arguments)


def run_inside(loop, work, *arguments):
    # asyncio.run would handle interrupts itself; a notebook does not.
    notebook = asyncio.new_event_loop()
    try:
        return notebook.run_until_complete(inside(loop, work, *arguments))
    finally:
        notebook.close()


CALLERS = pytest.mark.parametrize("run", [run_plain, run_inside])


def test_it_runs_in_the_thread_of_the_caller():
    with OwnLoop() as loop:
        assert loop.run(thread) is main_thread()


def test_inside_another_loop_it_runs_in_a_thread():
    with OwnLoop() as loop:
        assert run_inside(loop, thread) is not main_thread()
        assert loop.run(thread) is main_thread()


def test_callers_in_threads_wait_for_each_other():
    barrier, open_now, most = Barrier(3), 0, []

    async def work():
        nonlocal open_now
        open_now += 1
        most.append(open_now)
        for _ in range(3):
            await asyncio.sleep(0)
        open_now -= 1

    def call():
        barrier.wait()
        for _ in range(20):
            loop.run(work)

    with OwnLoop() as loop:
        threads = [Thread(target=call) for _ in range(3)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert most == [1] * 60


@CALLERS
@pytest.mark.parametrize("ending", ["cancelled", "result", "error"])
def test_an_interrupt_ends_the_work_and_is_raised(run, ending):
    """Whatever the work makes of its cancellation. The signal comes while it computes."""
    ended = []

    async def work():
        try:
            signal.pthread_kill(main_thread().ident, signal.SIGINT)
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("work")
            if ending == "cancelled":
                raise
            if ending == "error":
                raise ValueError("not this") from None

    with OwnLoop() as loop:
        with pytest.raises(KeyboardInterrupt):
            run(loop, work)
        assert ended == ["work"]
        assert run(loop, asyncio.sleep, 0, "on it goes") == "on it goes"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@CALLERS
def test_an_interrupt_after_the_work_stops_nothing_else(run):
    async def work():
        signal.pthread_kill(main_thread().ident, signal.SIGINT)

    with OwnLoop() as loop:
        with pytest.raises(KeyboardInterrupt):
            run(loop, work)
        assert run(loop, asyncio.sleep, 0.01, "on it goes") == "on it goes"


def test_a_second_interrupt_does_not_wait():
    async def work():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(60)

    with OwnLoop() as loop:
        with pytest.raises(KeyboardInterrupt):
            loop.run(work)
        assert loop.run(asyncio.sleep, 0, "on it goes") == "on it goes"


def test_a_handler_of_the_caller_is_left_alone():
    class Stop(KeyboardInterrupt):
        pass

    def stop(*_):
        raise Stop

    ended = []

    async def work():
        try:
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            await asyncio.sleep(60)
        finally:
            ended.append("work")

    before = signal.signal(signal.SIGINT, stop)
    try:
        with OwnLoop() as loop:
            with pytest.raises(Stop):
                loop.run(work)
            assert ended == ["work"]
            assert loop.run(asyncio.sleep, 0, "on it goes") == "on it goes"
        assert signal.getsignal(signal.SIGINT) is stop
    finally:
        signal.signal(signal.SIGINT, before)


@CALLERS
def test_errors_come_out_of_the_loop(run):
    async def fail(error):
        raise error

    with OwnLoop() as loop:
        with pytest.raises(ValueError, match="^it$"):
            run(loop, fail, ValueError("it"))
        with pytest.raises(TypeError, match="argument"):
            run(loop, fail)
        with pytest.raises(asyncio.CancelledError):
            run(loop, fail, asyncio.CancelledError())
