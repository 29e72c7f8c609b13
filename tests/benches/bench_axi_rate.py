"""Bench of the rate of the memory-mapped core behind AxiRam of cocotbext-axi with random stalls."""

import json
from pathlib import Path

import cocotb
from cocotb.triggers import RisingEdge

from tritstream.hw.axi.top import master

from benches.axi import PINS
from benches.axi_host import Host
from benches.wires import start
from support.wire import Job

LANES, CHANNELS, K, DEPTH, BLOCKS, MATRICES = (
    int(cocotb.plusargs[name]) for name in ("lanes", "channels", "k", "d", "blocks", "matrices"))
STALLS = float(cocotb.plusargs["stalls"])


@cocotb.test()
async def rate(dut):
    await start(dut, **PINS)
    host    = Host(dut, LANES, CHANNELS, 1, STALLS)
    figures = [{"words": 0} for _ in host.channels]

    async def watch(number):
        """Count the words that the memory sends, and the cycles from the first to the last."""
        valid, ready = (getattr(dut, f"{master(number)}_r{name}") for name in ("valid", "ready"))
        cycle, figure = 0, figures[number]
        while True:
            await RisingEdge(dut.aclk)
            cycle += 1
            if int(valid.value) and int(ready.value):
                figure["words"] += 1
                first = figure.setdefault("first", cycle)
                figure["cycles"] = cycle - first + 1

    async def run(channel):
        await channel.setup()
        await channel.restart()
        jobs = [Job(LANES, DEPTH, BLOCKS, k=K, seed=seed) for seed in range(MATRICES)]
        for job in jobs:
            await channel.ask(job.activations(), job.scales(), job.gemv())
        found = await channel.answers(sum(3 + job.blocks for job in jobs))
        for number, job in enumerate(jobs):
            first = number * (3 + job.blocks) + 2
            assert found[first:first + job.blocks] == job.results(range(job.blocks))

    for channel in host.channels:
        cocotb.start_soon(watch(channel.number))
    for task in [cocotb.start_soon(run(channel)) for channel in host.channels]:
        await task
    Path("rate.json").write_text(json.dumps(figures))
