"""Supported boards with a serial line, and the device that each carries by default.

Every serial line is slower than the smallest device. The default device is therefore chosen by area
and memory: as many lanes as leave some logic free, and memory for the longest activation vectors
that fit. Place and route reaches the default clock with some margin.
"""

from amaranth.build import Attrs, Pins, Resource, Subsignal

from tritstream.hw.boards import platforms
from tritstream.hw.boards.board import Board, Family
from tritstream.hw.boards.gatemate import OlimexGateMate
from tritstream.hw.boards.pll import Ecp5Pll, GateMatePll, Ice40Pll, Xc7Pll
from tritstream.hw.primitives.ecp5 import SYNTH_FILES, SYNTH_SCRIPT

__all__ = ["BOARDS", "find_board"]

_ECP5  = Family(Ecp5Pll, {"synth_opts": "-nowidelut", "script_after_synth": SYNTH_SCRIPT},
                SYNTH_FILES)
# The eight flip-flops of a tile share one enable. A full iCE40 has no place for many small groups.
_ICE40 = Family(Ice40Pll, {"synth_opts": "-dsp -dffe_min_ce_use 6"})
_GOWIN = Family()
# LEDs and clock are at pins that also serve the configuration.
_GW5A  = Family(options={
    "synth_opts": "-family gw5a",
    "gowin_pack_opts": "--ready_as_gpio --done_as_gpio --cpu_as_gpio --sspi_as_gpio"})
_GATEMATE = Family(GateMatePll, {"synth_opts": "-luttree -nomx8"})
_XC7   = Family(Xc7Pll, vivado="xc7")

_LEDS = {"idle": ("led", 0), "busy": ("led", 1), "failed": ("led", 2)}
_RGB  = {"idle": ("rgb_led", 0, "g"), "busy": ("rgb_led", 0, "b"), "failed": ("rgb_led", 0, "r")}

# Pins RX and TX of the Feather header. The board has no USB bridge.
_ORANGECRAB_UART = Resource(
    "uart", 0,
    Subsignal("rx", Pins("0", dir="i", conn=("io", 0))),
    Subsignal("tx", Pins("1", dir="o", conn=("io", 0))),
    Attrs(IO_TYPE="LVCMOS33", PULLMODE="UP"))
# On the part of the board that can be broken off.
_ICEBREAKER_BUSY = Resource(
    "led_busy", 0, Pins("1", dir="o", conn=("pmod", 2)), Attrs(IO_STANDARD="SB_LVCMOS"))

BOARDS = {board.name: board for board in (
    Board(name="ulx3s-85f", title="Radiona ULX3S, LFE5U-85F-6",
          platform="ulx3s:ULX3S_85F_Platform", loader="ulx3s", bridge="FT231X",
          lanes=8, columns=2, max_k=32768, clock_hz=100_000_000, baud=3_000_000,
          family=_ECP5, lights=_LEDS),
    Board(name="orangecrab-25f", title="OrangeCrab r0.2, LFE5U-25F-8",
          platform="orangecrab_r0_2:OrangeCrabR0_2_25FPlatform", loader="orangeCrab",
          bridge="none: an adapter at pins RX and TX",
          lanes=8, columns=1, max_k=32768, clock_hz=120_000_000, baud=3_000_000,
          family=_ECP5, lights=_RGB, resources=(_ORANGECRAB_UART,)),
    Board(name="orangecrab-85f", title="OrangeCrab r0.2, LFE5U-85F-8",
          platform="orangecrab_r0_2:OrangeCrabR0_2_85FPlatform", loader="orangeCrab",
          bridge="none: an adapter at pins RX and TX",
          lanes=8, columns=2, max_k=32768, clock_hz=120_000_000, baud=3_000_000,
          family=_ECP5, lights=_RGB, resources=(_ORANGECRAB_UART,)),
    Board(name="ecpix5-85", title="LambdaConcept ECPIX-5, LFE5UM5G-85F-8",
          platform="ecpix5:ECPIX585Platform", loader="ecpix5", bridge="FT2232H",
          lanes=8, columns=2, max_k=32768, clock_hz=120_000_000, baud=12_000_000,
          family=_ECP5, lights=_RGB),
    Board(name="icebreaker", title="1BitSquared iCEBreaker, iCE40UP5K",
          platform="icebreaker:ICEBreakerPlatform", loader="ice40_generic", bridge="FT2232H",
          lanes=1, columns=1, max_k=8960, clock_hz=24_000_000, baud=6_000_000,
          family=_ICE40, resources=(_ICEBREAKER_BUSY,),
          lights={"idle": ("led_g", 0), "busy": ("led_busy", 0), "failed": ("led_r", 0)}),
    Board(name="tang-nano-9k", title="Sipeed Tang Nano 9K, GW1NR-9C",
          platform="tang_nano_9k:TangNano9kPlatform", loader="tangnano9k", bridge="BL702",
          lanes=1, columns=1, max_k=8960, clock_hz=27_000_000, baud=3_000_000, family=_GOWIN,
          lights=_LEDS),
    Board(name="tang-primer-20k", title="Sipeed Tang Primer 20K on its dock, GW2A-18C",
          platform="tang_primer_20k:TangPrimer20kDockPlatform", loader="tangprimer20k",
          bridge="BL702", lanes=4, columns=1, max_k=32768, clock_hz=27_000_000, baud=3_000_000,
          family=_GOWIN, lights=_LEDS),
    Board(name="colorlight-i5", title="Colorlight i5 v7.0, LFE5U-25F-6",
          platform=platforms.ColorlightI5, loader="colorlight-i5", bridge="DAPLink",
          lanes=8, columns=1, max_k=32768, clock_hz=100_000_000, baud=1_000_000, family=_ECP5,
          lights={"busy": ("led", 0)}),
    Board(name="colorlight-i9", title="Colorlight i9 v7.2, LFE5U-45F-6",
          platform=platforms.ColorlightI9, loader="colorlight-i9", bridge="DAPLink",
          lanes=8, columns=2, max_k=32768, clock_hz=100_000_000, baud=1_000_000, family=_ECP5,
          lights={"busy": ("led", 0)}),
    Board(name="tang-nano-20k", title="Sipeed Tang Nano 20K, GW2AR-18C",
          platform=platforms.TangNano20k, loader="tangnano20k", bridge="BL616", lanes=4, columns=1,
          max_k=32768, clock_hz=27_000_000, baud=3_000_000, family=_GOWIN, lights=_LEDS),
    Board(name="tang-primer-25k", title="Sipeed Tang Primer 25K on its dock, GW5A-25A",
          platform=platforms.TangPrimer25k, loader="tangprimer25k", bridge="BL616", lanes=4,
          columns=1, max_k=32768, clock_hz=50_000_000, baud=3_000_000, family=_GW5A,
          lights={"busy": ("led", 0), "failed": ("led", 1)}),
    Board(name="olimex-gatemate", title="Olimex GateMateA1-EVB, CCGM1A1",
          platform=OlimexGateMate, loader="olimex_gatemateevb", bridge="RP2040", lanes=1,
          columns=1, max_k=8960, clock_hz=25_000_000, baud=1_000_000, family=_GATEMATE,
          lights={"busy": ("led", 0)}),
    Board(name="arty-a7-35", title="Digilent Arty A7-35T, XC7A35T-1L",
          platform="arty_a7:ArtyA7_35Platform", loader="arty_a7_35t", bridge="FT2232H",
          lanes=8, columns=2, max_k=32768, clock_hz=100_000_000, baud=12_000_000, family=_XC7,
          lights=_LEDS, cells={"LUT": 20800, "flip-flops": 41600, "RAMB18": 100, "DSP48": 90}),
    Board(name="arty-a7-100", title="Digilent Arty A7-100T, XC7A100T-1L",
          platform="arty_a7:ArtyA7_100Platform", loader="arty_a7_100t", bridge="FT2232H",
          lanes=8, columns=2, max_k=32768, clock_hz=100_000_000, baud=12_000_000, family=_XC7,
          lights=_LEDS, cells={"LUT": 63400, "flip-flops": 126800, "RAMB18": 270, "DSP48": 240}),
)}


def find_board(name: str) -> Board:
    """Return the board with this name; raise :class:`ValueError` if it is unknown."""
    if name not in BOARDS:
        raise ValueError(f"unknown board {name!r}; use one of {', '.join(BOARDS)}")
    return BOARDS[name]
