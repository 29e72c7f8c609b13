"""Command-line arguments and options that several commands share.

A command adds the default, which the help shows. An option whose default depends on something says
so by ``show_default``.
"""

from pathlib import Path
from typing import Annotated

import typer

from tritstream.golden.gguf.i2s_order import I2S_ORDERS
from tritstream.golden.model_sizes import QWEN25

__all__ = ["MEGABYTE", "ActivationBits", "BackendName", "BaseModel", "Burst", "ColumnCounts",
           "Columns", "Depth", "DeviceSpec", "Exclude", "Force", "I2sOrder", "Json", "JsonFile",
           "LaneCounts", "Lanes", "Layers", "MaxK", "Memory", "MemoryClock", "Model", "ModelSize",
           "NoTokenizer", "Output", "Outstanding", "Packed", "PlaceSeed", "PlaceSeeds",
           "ReadBuffer", "Repeat", "Report", "Rtl", "Seed", "ShardSize", "Shrink", "Stops",
           "System", "Temperature", "TopK", "TopP", "TorchDevice", "Vocab"]

#: Bytes per megabyte.
MEGABYTE = 1_000_000

# Checkpoints.
Model  = Annotated[Path, typer.Argument(
    help="Hugging Face directory with safetensors, name of a model on the Hub such as "
         "Qwen/Qwen2.5-0.5B or NAME@REVISION, or GGUF file of the architecture llama or qwen2.")]
Packed = Annotated[Path, typer.Argument(
    help="Packed checkpoint: a directory, or the name of a model on the Hub.")]
Depth  = Annotated[int, typer.Option("--depth", "-d", help="Trits per weight, 1..4.")]

# Generated checkpoints.
ModelSize = Annotated[str, typer.Argument(help=f"Size of Qwen2.5: {', '.join(QWEN25)}.")]
Layers    = Annotated[int | None, typer.Option(
    help="Number of layers.", show_default="all layers of that size")]
Vocab     = Annotated[int | None, typer.Option(
    help="Number of rows of the embedding.", show_default="all rows of that size")]
Shrink    = Annotated[int, typer.Option(
    help="Divide the hidden and the intermediate size, and the size of a head, by this.")]
ShardSize = Annotated[int, typer.Option(min=1, help="Largest number of megabytes per file.")]

BaseModel = Annotated[str | None, typer.Option(
    metavar="NAME", help="Name of MODEL on the Hub, for the model card that is written.",
    show_default="MODEL, if it is the name of a model on the Hub")]

# Results.
Output   = Annotated[Path, typer.Option("--output", "-o", help="Directory to write.")]
Force    = Annotated[bool, typer.Option(
    "--force", help="Replace the files that tritstream wrote there, and start again. Other files "
                    "are never replaced.")]
Exclude  = Annotated[list[str] | None, typer.Option(
    "--exclude", metavar="GLOB",
    help="Keep the matrices whose names match GLOB unquantized, such as '*.down_proj' or "
         "'layers.0.*'. May be repeated. Routers, gates of linear attention, vision and audio "
         "parts, classification heads, embeddings and the output head are kept by default.")]
NoTokenizer = Annotated[bool, typer.Option(
    "--no-tokenizer", help="Leave out the tokenizer of a GGUF file, such as one that cannot be "
                           "converted.")]
I2sOrder = Annotated[str, typer.Option(
    "--i2s-order", help="Order of the weights in matrices of the GGUF type I2_S, which no file "
                        f"states: {', '.join(I2S_ORDERS)}. 64 is for files that were quantized on "
                        "ARM, rows for builds of bitnet.cpp that put four rows in a byte.")]
TorchDevice = Annotated[str | None, typer.Option(
    "--torch-device", metavar="NAME", help="Device of torch that computes layer by layer: cuda, "
    "mps or cpu.", show_default="the first of these that there is")]
Json     = Annotated[bool, typer.Option("--json", help="Print the report as JSON.")]
JsonFile = Annotated[Path | None, typer.Option(
    "--output", "-o", help="Write the report to this JSON file.")]
Report   = Annotated[Path | None, typer.Option(
    "--report", help="Write the report to this JSON file, too.")]

# Devices to simulate or to export.
DeviceSpec = Annotated[str, typer.Option(
    "--device", help="Device to use: sim or sim:lanes=64,columns=2 (simulated), tcp://HOST:PORT, "
                     "udp://HOST (board with memory), serial:/dev/ttyUSB0,baud=3000000 or "
                     "serial:COM3 (board on a serial port). Separate several devices by commas. "
                     "layers: before all of them gives each device complete layers of the "
                     "model.")]
Lanes   = Annotated[int, typer.Option(
    "--lanes", help="Lanes of the device, that is, bytes per stream word: 1, 2, 4, .., 64. Ignored "
                    "by a real device.")]
Columns = Annotated[int, typer.Option(
    "--columns", help="Activation vectors per pass of the device. With 4, a prompt takes about a "
                      "quarter of the cycles. Results do not change.")]
MaxK    = Annotated[int, typer.Option(
    "--max-k", help="Length of the longest activation vector that the device stores.")]
Rtl     = Annotated[Path | None, typer.Option(
    "--rtl", help="Verilog file of `tritstream hw verilog --plain` to simulate instead of the "
                  "device's own RTL.")]

# Memory-mapped core.
Burst       = Annotated[int, typer.Option(
    help="Largest number of beats per burst, a power of two. A burst has 64 to 4096 bytes.")]
Outstanding = Annotated[int, typer.Option(
    help="Largest number of outstanding read bursts per channel.")]
ReadBuffer  = Annotated[int, typer.Option(
    "--buffer", help="Words that a channel has requested or buffered at most. For full rate, the "
                     "latency of the memory in cycles and two bursts.")]


def _not_empty(texts: list[str] | None) -> list[str] | None:
    if "" in (texts or []):
        raise typer.BadParameter("a stop text must not be empty")
    return texts


# Running a model.
BackendName    = Annotated[str, typer.Option(
    "--backend", help="Multiply by device, golden (the device's integers in numpy), cpu or cuda "
                      "(the same integers on this machine's cores or GPU) or reference (floats).")]
ActivationBits = Annotated[int, typer.Option(
    "--activation-bits", help="Bits of activations: 8, or 16, which takes two columns.")]
System         = Annotated[str | None, typer.Option(
    "--system", help="System message of the conversation.")]
Stops          = Annotated[list[str] | None, typer.Option(
    "--stop", metavar="TEXT", callback=_not_empty,
    help="End before this text. May be repeated.")]
Temperature    = Annotated[float, typer.Option(
    "--temperature", help="Temperature of the sampling; 0 takes the most likely token.")]
TopP           = Annotated[float | None, typer.Option(
    "--top-p", help="Sample from the most likely tokens with this probability in all.",
    show_default="the checkpoint's, else 1")]
TopK           = Annotated[int | None, typer.Option(
    "--top-k", help="Sample from this number of most likely tokens; 0 is all.",
    show_default="the checkpoint's, else all")]
Seed           = Annotated[int, typer.Option(
    "--seed", min=0, max=(1 << 64) - 1, help="Random seed of the sampling.")]

# Devices to measure or to build.
LaneCounts   = Annotated[list[int], typer.Option(
    "--lanes", help="Number of lanes: 1, 2, 4, .., 64. May be repeated.")]
ColumnCounts = Annotated[list[int], typer.Option(
    "--columns", help="Activation vectors per pass. May be repeated.")]
Memory       = Annotated[str, typer.Option(
    "--memory", help="Memory of the board: mt48lc16m16, as4c32m16, m12l64322a (SDRAM), mt41k64m16 "
                     "or mt41k256m16 (DDR3).")]
MemoryClock  = Annotated[float | None, typer.Option(
    "--clock", help="Clock of core and memory controller in MHz.",
    show_default="the board's own")]
PlaceSeed    = Annotated[int, typer.Option(
    "--seed", min=0, max=(1 << 31) - 1, help="Random seed of place and route.")]
PlaceSeeds   = Annotated[int | None, typer.Option(
    "--seeds", min=1, metavar="N", help="Place and route with the seeds 1 to N, too, to report "
                                        "how the clock varies.")]

Repeat = Annotated[int, typer.Option(
    "--repeat", min=1, help="Number of measured runs; the fastest one counts.")]
