"""The build id is a digest of the RTL: of all of it, and of nothing else."""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from amaranth import Signal

from tritstream.hw.boards.build import Choice, plan_board
from tritstream.hw.boards.catalog import find_board
from tritstream.hw.config import DeviceConfig
from tritstream.hw.framing.framer import Framer
from tritstream.hw.io.axi_stream import AxiStreamDevice
from tritstream.hw.io.uart import UartReceiver
from tritstream.hw.tools.core_export import CORE, export_core
from tritstream.hw.tools.export import export_device, identify, to_rtlil

OPEN = DeviceConfig(lanes=1, max_k=16, build_id=None)
#: Prints the build id of a core, from the sources in the folder where it runs.
SCRIPT = ("from tritstream.hw.tools.core_export import export_core; "
          "from tritstream.hw.config import DeviceConfig; "
          "print(export_core(DeviceConfig(lanes=1, max_k=16, build_id=None))[1].build_id)")


@pytest.fixture(scope="module")
def core_id():
    return export_core(OPEN)[1].build_id


def id_in_another_process(folder, seed):
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=folder, text=True,
                          capture_output=True, check=True,
                          env={**os.environ, "PYTHONPATH": str(folder), "PYTHONHASHSEED": seed})
    return int(done.stdout)


def test_it_is_the_digest_of_the_design_with_id_zero():
    design, found = to_rtlil(AxiStreamDevice(OPEN), OPEN, CORE)
    zero = replace(OPEN, build_id=0)
    digest = hashlib.sha256(to_rtlil(AxiStreamDevice(zero), zero, CORE)[0].encode()).hexdigest()
    assert found == replace(OPEN, build_id=int(digest[:8], 16))
    assert design == to_rtlil(AxiStreamDevice(found), found, CORE)[0]


def test_neither_place_nor_comments_of_the_sources_count(tmp_path, core_id):
    root = Path(__file__).parents[3]
    for name in ("hw", "golden"):
        shutil.copytree(root / name, tmp_path / name,
                        ignore=shutil.ignore_patterns("__pycache__", "reports", "*.json"))
    for path in (tmp_path / "hw").glob("*.py"):
        path.write_text(f"# A comment.\n\n\n{path.read_text()}\n\nUNUSED = 1\n")
    assert id_in_another_process(tmp_path, "1") == core_id


def test_two_processes_agree(core_id):
    assert id_in_another_process(Path(__file__).parents[3], "2") == core_id


@pytest.mark.parametrize("config", [
    replace(OPEN, columns=2), replace(OPEN, max_k=32), replace(OPEN, clock_hz=1)])
def test_every_parameter_counts(config, core_id):
    assert export_core(config)[1].build_id != core_id


def test_family_counts(core_id):
    assert export_core(OPEN, "ecp5")[1].build_id != core_id


def changed(monkeypatch, component):
    """Another register in every component of a class."""
    elaborate = component.elaborate

    def other(self, platform):
        m = elaborate(self, platform)
        more = Signal()
        m.d.sync += more.eq(~more)
        return m

    monkeypatch.setattr(component, "elaborate", other)


@pytest.mark.parametrize("component", [Framer, AxiStreamDevice])
def test_a_change_of_the_rtl_changes_it(monkeypatch, core_id, component):
    changed(monkeypatch, component)
    assert export_core(OPEN)[1].build_id != core_id


def test_the_plain_device_and_the_core_say_what_they_are():
    for export in (export_device, export_core):
        text, config = export(OPEN)
        assert text == export(config)[0]
    assert f"//   build id {config.build_id:08x}\n" in text


@pytest.mark.parametrize("name", ["ulx3s-85f", "icebreaker"])
def test_a_board_has_the_id_of_its_own_design(monkeypatch, name):
    choice = Choice(lanes=1, columns=1, max_k=16)
    plan, config = plan_board(find_board(name), choice)
    again, same = plan_board(find_board(name), choice)
    assert config == same and plan.files == again.files
    design = plan.files["top.il"]
    assert design.count(f"{config.build_id:032b}") == 1
    assert "attribute \\src" not in design
    zero = design.replace(f"{config.build_id:032b}", 32 * "0")
    assert int(hashlib.sha256(zero.encode()).hexdigest()[:8], 16) == config.build_id
    changed(monkeypatch, UartReceiver)
    assert plan_board(find_board(name), choice)[1].build_id != config.build_id


def test_a_design_without_a_device_is_refused():
    with pytest.raises(ValueError, match=r"^the design must contain one build id, not 0$"):
        identify("module \\top\nend\n", OPEN)
    assert identify("", replace(OPEN, build_id=7)) == ("", replace(OPEN, build_id=7))
