"""Register map of the core in other languages: SystemRDL, C and Markdown."""

from collections.abc import Iterator

from tritstream.hw.axi.config import AxiConfig
from tritstream.hw.axi.registers import (
    BANK,
    CHANNEL,
    GLOBAL,
    MAGIC,
    Error,
    Refusal,
    Register,
    Status,
)
from tritstream.hw.soc.registers import DESCRIPTORS, UNIT

__all__ = ["c_header", "register_table", "system_rdl"]

_PREFIX = "TRITSTREAM_AXI"


def system_rdl(config: AxiConfig) -> str:
    """Return the register map as SystemRDL 2.0, with the channels of ``config``."""
    lines = ["// Registers of tritstream_axi. Generated; docs/axi.md has the semantics.", ""]
    for codes in (Error, Refusal):
        lines += [f"enum {codes.__name__.lower()}_code {{",
                  *(f'    {code.name} = {int(code)} {{ desc = "{code.text}"; }};'
                    for code in codes), "};", ""]
    lines += ["addrmap tritstream_axi {", '    name = "tritstream_axi";',
              "    default regwidth = 32;", "    default accesswidth = 32;", "",
              "    regfile global_bank {", *_rdl_registers(GLOBAL), "    };",
              "    regfile channel_bank {", *_rdl_registers(CHANNEL), "    };", "",
              "    global_bank bank @ 0x0;",
              f"    channel_bank channel[{config.channels}] @ {BANK:#x} += {BANK:#x};", "};", ""]
    return "\n".join(lines)


def _rdl_registers(registers: dict[str, Register]) -> Iterator[str]:
    for register in registers.values():
        yield f'        reg {{ desc = "{register.text}";'
        for field in _rdl_fields(register):
            yield f"            {field}"
        yield f"        }} {register.name} @ {register.offset:#x};"


def _rdl_fields(register: Register) -> Iterator[str]:
    hardware  = {"r": "w", "w": "r", "rw": "r"}[register.access]
    access = f"sw = {register.access}; hw = {hardware};"
    if register.codes is Status:
        for number, bit in enumerate(Status):
            yield f'field {{ desc = "{bit.text}"; {access} }} {bit.name}[{number}:{number}];'
        return
    encode = f" encode = {register.codes.__name__.lower()}_code;" if register.codes else ""
    top = int(max(register.codes)).bit_length() - 1 if register.codes else 31
    yield f"field {{ {access}{encode} }} value[{top}:{register.low}];"


def c_header() -> str:
    """Return offsets and codes of the registers as a header for C."""
    values = {
        f"{_PREFIX}_MAGIC_VALUE": (MAGIC, "content of the register magic"),
        f"{_PREFIX}_UNIT": (UNIT, "bytes of a unit of address, length and memory"),
        f"{_PREFIX}_DESCRIPTORS": (DESCRIPTORS, "descriptors that can wait"),
        **{f"{_PREFIX}_GLOBAL_{name.upper()}": (register.offset, register.text)
           for name, register in GLOBAL.items()},
        **{f"{_PREFIX}_{name.upper()}": (register.offset, register.text)
           for name, register in CHANNEL.items()},
        **{f"{_PREFIX}_{codes.__name__.upper()}_{code.name}": (int(code), code.text)
           for codes in (Error, Refusal, Status) for code in codes},
    }
    width = max(map(len, values)) + 1
    return "\n".join([
        "/* Registers of tritstream_axi. Generated; docs/axi.md has the semantics. */",
        f"#ifndef {_PREFIX}_H", f"#define {_PREFIX}_H", "",
        "/* Offset of the registers of a channel: add it to an offset without GLOBAL. */",
        f"#define {_PREFIX}_CHANNEL(c) ({BANK:#x}u * (1u + (c)))", "",
        *(f"#define {name:{width}}{value:#x}u /* {text} */"
          for name, (value, text) in values.items()), "", "#endif", ""])


def register_table() -> str:
    """Return the registers as tables of Markdown."""
    parts = [("Bank 0", GLOBAL), ("Bank of a channel", CHANNEL)]
    lines = []
    for title, registers in parts:
        lines += [f"| offset | {title.lower()} | access | meaning |", "|---|---|---|---|",
                  *(f"| `{register.offset:#05x}` | `{name}` | {register.access} | "
                    f"{register.text} |" for name, register in registers.items()), ""]
    for codes in (Error, Refusal, Status):
        name = {Error: "error", Refusal: "refused", Status: "status"}[codes]
        lines += [f"| `{name}` | name | meaning |", "|---|---|---|",
                  *(f"| {int(code)} | {code.name} | {code.text} |" for code in codes), ""]
    return "\n".join(lines)
