"""A session of the memory-mapped core: all channels at once, each compared with its model."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.registers import register
from tritstream.scripts.assurance.axi_fuzz.channel import FuzzedChannel
from tritstream.scripts.assurance.axi_fuzz.disturbances import Disturbances
from tritstream.scripts.assurance.rtl_fuzz.compare import Fault
from tritstream.scripts.assurance.rtl_fuzz.elements import Step, elements
from tritstream.sim.axi_channel import ChannelHalted, SimulatedChannel, Window
from tritstream.sim.axi_core import CoreStuck, RegisterRefused, SimulatedCore
from tritstream.sim.axi_timing import Timing
from tritstream.sim.build import NativeBuild

__all__ = ["Tally", "run_session"]

#: Elements per channel and session.
ELEMENTS = 30
#: Probability of a disturbance before an element.
_OFTEN = 0.35
_WINDOW = Window(1 << 20, 1 << 12)
_DISTURBANCES = [name for name in vars(Disturbances) if not name.startswith("_")]
#: Disturbances that begin a session come less often, so that products end.
_SELDOM = ("restart", "restart_in_a_burst", "reset", "impossible_sizes", "memory_elsewhere")
_WEIGHTS = np.array([1 if name in _SELDOM else 3 for name in _DISTURBANCES])


@dataclass
class Tally:
    """Counts over all sessions."""

    sessions: int = 0
    cycles:   int = 0
    errors:   int = 0
    elements: Counter[str] = field(default_factory=Counter)
    disturbances: Counter[str] = field(default_factory=Counter)
    answers:  Counter[str] = field(default_factory=Counter)


def run_session(
    build: NativeBuild, config: AxiConfig, seed: int, number: int, tally: Tally,
    core_type: type[SimulatedCore] = SimulatedCore,
) -> str | None:
    """Run session ``number`` of a seed on a new core, and add it to ``tally``.

    Return its fault, or None.
    """
    rng = np.random.default_rng([seed, number, config.lanes, config.channels])
    memories = [_WINDOW.memory((1 + channel) << 33) for channel in range(config.channels)]
    fault = None
    with core_type(build, memories) as core:
        core.skew(int(rng.integers(0, 4)), number)
        channels: list[FuzzedChannel] = []
        try:
            for each in range(config.channels):
                software = SimulatedChannel(core, each, memories[each], _WINDOW)
                channels.append(FuzzedChannel(core, software, config, rng))
            _run(core, channels, config, rng, tally)
        except (Fault, CoreStuck, RegisterRefused, ChannelHalted) as error:
            fault = str(error)
        tally.sessions += 1
        tally.cycles += core.cycles
        tally.errors += sum(core.errors(each) for each in range(config.channels))
        for channel in channels:
            tally.answers += channel.comparison.answers
    return fault


def _run(core: SimulatedCore, channels: list[FuzzedChannel], config: AxiConfig,
         rng: np.random.Generator, tally: Tally) -> None:
    disturbances = Disturbances(core, channels, rng)
    streams: list[Iterator[tuple[str, list[Step]]]] = [
        elements(config.device, rng, channel.model, ELEMENTS) for channel in channels]
    left = list(range(len(channels)))
    while left:
        number = int(rng.choice(left))
        if rng.random() < _OFTEN:
            name = str(rng.choice(_DISTURBANCES, p=_WEIGHTS / _WEIGHTS.sum()))
            tally.disturbances[name] += 1
            getattr(disturbances, name)(channels[int(rng.integers(len(channels)))])
        kind, steps = next(streams[number], ("", []))
        if not steps:
            left.remove(number)
            continue
        if kind != "check":
            tally.elements[kind] += 1
        for step in steps:
            _take(core, channels[number], step)
        _obeys_axi(core, number)
    for number, channel in enumerate(channels):
        _end(core, channel, config, rng)
        _obeys_axi(core, number)


def _take(core: SimulatedCore, channel: FuzzedChannel, step: Step) -> None:
    """Take a step of an element. What ends a frame of a device restarts a channel."""
    match step:
        case ("push", data):
            channel.push(data)
        case ("wait", cycles):
            core.run(cycles)
        case ("abandon",) | ("reset",):
            channel.restart()
        case ("check",):
            channel.check()


def _end(core: SimulatedCore, channel: FuzzedChannel, config: AxiConfig,
         rng: np.random.Generator) -> None:
    """Run a product that must be computed, because nothing disturbs it."""
    channel.check()
    channel.set_timing(Timing())
    channel.restart()
    for _, steps in elements(config.device, rng, channel.model, 0):
        for step in steps:
            _take(core, channel, step)


def _obeys_axi(core: SimulatedCore, number: int) -> None:
    breaches, first = core.breaches(number)
    if breaches:
        raise Fault(f"master {number} {first}, {breaches} times")
    if core.interrupt and not core.read(register("pending")):
        core.run(4)
        if core.interrupt and not core.read(register("pending")):
            raise Fault("an interrupt is requested by no channel")
