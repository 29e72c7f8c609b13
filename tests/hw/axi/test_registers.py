import subprocess
from pathlib import Path

import pytest
from systemrdl import RDLCompiler
from systemrdl.node import RegNode

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.register_files import c_header, register_table, system_rdl
from tritstream.hw.axi.registers import (
    BANK,
    CHANNEL,
    GLOBAL,
    Error,
    Refusal,
    Status,
    register,
)
from tritstream.hw.config import DeviceConfig

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def rdl(tmp_path_factory):
    """Registers of two channels as systemrdl-compiler reads them, by address."""
    path = tmp_path_factory.mktemp("rdl") / "core.rdl"
    path.write_text(system_rdl(AxiConfig(DeviceConfig(8), channels=2)))
    compiler = RDLCompiler()
    compiler.compile_file(str(path))
    top = compiler.elaborate().top
    return {node.absolute_address: node for node in top.descendants(unroll=True)
            if isinstance(node, RegNode)}


def test_rdl_has_the_registers(rdl):
    banks = {None: GLOBAL, 0: CHANNEL, 1: CHANNEL}
    expected = {register(name, channel): entry for channel, bank in banks.items()
                for name, entry in bank.items()}
    assert sorted(rdl) == sorted(expected)
    for address, entry in expected.items():
        node = rdl[address]
        assert (node.inst_name, node.get_property("desc")) == (entry.name, entry.text)
        for field in node.fields():
            assert field.get_property("sw").name == entry.access
            assert field.is_hw_writable == (entry.access == "r")
            assert field.low >= entry.low


def test_rdl_has_the_codes(rdl):
    for name, codes in (("error", Error), ("refused", Refusal)):
        field, = rdl[register(name, 1)].fields()
        found = field.get_property("encode")
        assert {code.name: (code.value, code.rdl_desc) for code in found} == {
            code.name: (code.value, code.text) for code in codes}
        assert max(codes) < 1 << field.width
    for name in ("status", "enable"):
        assert [(field.inst_name, 1 << field.low, field.width)
                for field in rdl[register(name, 0)].fields()] == [
            (bit.name, bit.value, 1) for bit in Status]


def test_banks_do_not_overlap():
    assert max(entry.offset for bank in (GLOBAL, CHANNEL) for entry in bank.values()) < BANK
    assert register("magic", 31) + BANK <= 1 << 16


def test_header_has_the_same_numbers(tmp_path):
    (tmp_path / "regs.h").write_text(c_header())
    checks = {
        **{f"TRITSTREAM_AXI_CHANNEL(3) + TRITSTREAM_AXI_{name.upper()}": register(name, 3)
           for name in CHANNEL},
        **{f"TRITSTREAM_AXI_GLOBAL_{name.upper()}": register(name) for name in GLOBAL},
        **{f"TRITSTREAM_AXI_{codes.__name__.upper()}_{code.name}": code.value
           for codes in (Error, Refusal, Status) for code in codes},
    }
    (tmp_path / "check.c").write_text('#include "regs.h"\n#include "regs.h"\n' + "".join(
        f'_Static_assert({name} == {value}, "{name}");\n' for name, value in checks.items()))
    done = subprocess.run(["gcc", "-std=c11", "-Wall", "-Wextra", "-pedantic", "-Werror", "-c",
                           "check.c"], cwd=tmp_path, capture_output=True, text=True)
    assert not done.returncode, done.stderr


def test_the_page_has_the_tables():
    assert register_table().strip() in (ROOT / "docs" / "axi.md").read_text()
