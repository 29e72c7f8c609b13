"""Command that plans a packed model, or a model of given shapes, on cards and boards."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tritstream.golden.fixed_point import GROUP
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.layout.projection import MODELS
from tritstream.host.placement.fitting import fit
from tritstream.host.placement.plan import PlacementError, Plan
from tritstream.host.placement.targets import Target, find_target, target_names
from tritstream.host.placement.work import Step, steps_of_checkpoint, steps_of_shapes
from tritstream.scripts.console import print_json, reports_errors, write_json
from tritstream.scripts.options import Json, Report
from tritstream.scripts.running.plan_report import plan_record, show_plans

__all__ = ["plan"]

_DIRECT = {"coded": False, "direct": True}
_SPLITS = ("rows", "layers")


@dataclass(frozen=True)
class _Model:
    """Model to plan: its name, its depth for people, and its steps at this or another depth."""

    name:  str
    depth: str
    steps: Sequence[Step]
    lower: Callable[[], Sequence[tuple[int, Sequence[Step]]]] = tuple


@reports_errors
def plan(
    packed: Annotated[Path | None, typer.Argument(
        help="Packed checkpoint: a directory, or the name of a model on the Hub.",
        show_default=False)] = None,
    target: Annotated[list[str] | None, typer.Option(
        help=f"Card or board: {', '.join(target_names())}, or a TOML or JSON file. May be "
             "repeated.", show_default=False)] = None,
    shape: Annotated[list[str] | None, typer.Option(
        metavar="NAME", help=f"Plan a model of this shape in place of PACKED: {', '.join(MODELS)}. "
                             "May be repeated.", show_default=False)] = None,
    depth: Annotated[list[int] | None, typer.Option(
        "--depth", "-d", help="Trits per weight of a shape, 1..4. May be repeated.",
        show_default="3")] = None,
    group: Annotated[int, typer.Option(
        help="Weights of a shape per scale; 0 is one scale per row.")] = GROUP,
    scales: Annotated[str, typer.Option(
        help="Scales of a shape: coded, or direct (a mantissa per row and group).")] = "coded",
    head: Annotated[bool, typer.Option(
        "--head", help="Place the output head of a shape, too.")] = False,
    cards: Annotated[int | None, typer.Option(
        help="Number of cards.", show_default="as few as hold the model")] = None,
    split: Annotated[str, typer.Option(
        help="What cards share: rows (and columns, where rows are few), or layers.")] = "rows",
    report: Report = None,
    as_json: Json = False,
):
    """Plan a model on cards or boards with memory: what is where, and the projected speed.

    The time is computed by the formula of the cycles from the figures of the target. It was not
    measured. Nothing is loaded.
    """
    if bool(packed) == bool(shape):
        raise ValueError("give either PACKED or --shape")
    if not target:
        raise ValueError(f"give a --target: {', '.join(target_names())}, or a TOML or JSON file")
    if scales not in _DIRECT:
        raise ValueError(f"scales must be {' or '.join(_DIRECT)}, not {scales!r}")
    if split not in _SPLITS:
        raise ValueError(f"split must be {' or '.join(_SPLITS)}, not {split!r}")
    models = ([_packed(packed)] if packed else
              [_shaped(name, each, group or None, _DIRECT[scales], head)
               for name in shape or [] for each in depth or [3]])
    targets = [find_target(name) for name in target]
    found = [plan_record(model.name, model.depth, each, split, _fitted(model, each, cards, split))
             for model in models for each in targets]
    if report:
        write_json(report, found)
    print_json(found) if as_json else show_plans(found)


def _packed(path: Path) -> _Model:
    checkpoint = PackedCheckpoint(path)
    depths = sorted({info.depth for info in checkpoint.matrices.values()})
    return _Model(str(path), ", ".join(map(str, depths)),
                  steps_of_checkpoint(checkpoint, checkpoint.matrices))


def _shaped(name: str, depth: int, group: int | None, direct: bool, head: bool) -> _Model:
    if name not in MODELS:
        raise ValueError(f"no shape {name!r}; there are {', '.join(MODELS)}")
    sizes = MODELS[name]
    shapes = {f"model.layers.{layer}.{module}": shape for layer in range(sizes.layers)
              for module, shape in sizes.linear().items()}
    if head:
        shapes["lm_head"] = sizes.vocabulary, sizes.hidden

    def steps(trits: int) -> list[Step]:
        return steps_of_shapes(shapes, trits, group, direct)

    return _Model(name, str(depth), steps(depth),
                  lambda: [(lower, steps(lower)) for lower in range(depth - 1, 0, -1)])


def _fitted(model: _Model, target: Target, cards: int | None, split: str) -> Plan:
    try:
        return fit(model.steps, target, cards, split == "layers", model.lower)
    except PlacementError as error:
        raise PlacementError(f"{model.name}, d = {model.depth}: {error}") from None
