"""Fixtures of several packages: devices that are tested byte by byte, and an empty cache."""

import gc
import os
import signal
import tempfile

# Before numpy and torch are loaded: their threads wait for small products by spinning, which on a
# busy machine takes several times as long as the products. Tests of threads choose their number.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from tritstream.golden import cache_place
from tritstream.sim.build import build_native, device_rtl
from tritstream.sim.native import NativeDevice

from support.wire import CONFIGS, Job, Wire

# Lines of progress depend on how busy the machine is; tests of the lines ask for them.
os.environ["TRITSTREAM_PROGRESS"] = "0"
# A name that is no path must not reach the network; tests of the Hub have their own.
os.environ["HF_HUB_OFFLINE"] = "1"
# A shell starts background jobs with SIGINT ignored, and the processes that tests interrupt would
# inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The same examples in every run, however slow the machine is, and no files of earlier runs.
settings.register_profile("tests", deadline=None, derandomize=True, database=None,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")
# Imports make a million objects that stay: collecting garbage among them takes seconds per process.
gc.disable()


def pytest_collection_finish(session):
    gc.enable()
    gc.freeze()


@pytest.fixture(scope="module", params=CONFIGS)
def build(request):
    config = CONFIGS[request.param]
    return config, build_native(config.lanes, device_rtl(config)).library


@pytest.fixture
def wire(build):
    config, library = build
    with NativeDevice(library) as device:
        wire = Wire(device, config)
        yield wire
        assert wire.silent()


@pytest.fixture
def job(wire):
    return Job(wire.lanes, columns=wire.config.columns)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache, apart from the cache and the temporary files of the user."""
    path = tmp_path / "cache"
    monkeypatch.setenv("TRITSTREAM_CACHE", str(path))
    monkeypatch.setenv("HOME", "/proc/none")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    cache_place._chosen.cache_clear()
    yield path
    cache_place._chosen.cache_clear()
