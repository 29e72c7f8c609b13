"""Command that plans a packed model, or a model of given shapes, on cards and boards."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.layout.projection import MODELS
from tritstream.host.layout.shapes import SHAPES, ModelShape, WeightForm
from tritstream.host.placement.fitting import fit
from tritstream.host.placement.plan import PlacementError, Plan
from tritstream.host.placement.targets import Target, find_target, target_names
from tritstream.host.placement.work import Step, steps_of_checkpoint, steps_of_shapes
from tritstream.scripts.console import print_json, reports_errors, write_json
from tritstream.scripts.options import Json, Report
from tritstream.scripts.running.plan_report import plan_record, show_plans

__all__ = ["plan"]

_NAMED = {shape.name: shape for shape in (*MODELS.values(), *SHAPES.values())}
_DIRECT = {"coded": False, "direct": True}
_SPLITS = ("rows", "layers")


@dataclass(frozen=True)
class _Model:
    """Model to plan: its name, its depths for people, and its steps."""

    name:  str
    depth: str
    steps: Sequence[Step]


@reports_errors
def plan(
    packed: Annotated[Path | None, typer.Argument(
        help="Packed checkpoint: a directory, or the name of a model on the Hub.",
        show_default=False)] = None,
    target: Annotated[list[str] | None, typer.Option(
        help=f"Card or board: {', '.join(target_names())}, or a TOML or JSON file. May be "
             "repeated.", show_default=False)] = None,
    shape: Annotated[list[str] | None, typer.Option(
        metavar="NAME", help=f"Plan a model of this shape in place of PACKED: {', '.join(_NAMED)}. "
                             "May be repeated.", show_default=False)] = None,
    depth: Annotated[list[int] | None, typer.Option(
        "--depth", "-d", help="Trits per weight of a shape, 1..4. May be repeated.",
        show_default="3 for Qwen2.5, 1 for models trained ternary")] = None,
    group: Annotated[int | None, typer.Option(
        help="Weights of a shape per scale; 0 is one scale per matrix.",
        show_default="the model's own, 16 for Qwen2.5")] = None,
    scales: Annotated[str | None, typer.Option(
        help="Scales of a shape: coded, or direct (16-bit numbers).",
        show_default="the model's own")] = None,
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
    if scales not in (None, *_DIRECT):
        raise ValueError(f"scales must be {' or '.join(_DIRECT)}, not {scales!r}")
    if split not in _SPLITS:
        raise ValueError(f"split must be {' or '.join(_SPLITS)}, not {split!r}")
    models = ([_packed(packed)] if packed else
              [_shaped(one, _form(one, each, group, scales), head)
               for one in map(_named, shape or []) for each in depth or [one.form.depth]])
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


def _named(name: str) -> ModelShape:
    if name not in _NAMED:
        raise ValueError(f"no shape {name!r}; there are {', '.join(_NAMED)}")
    return _NAMED[name]


def _form(model: ModelShape, depth: int, group: int | None, scales: str | None) -> WeightForm:
    own = model.form
    return WeightForm(depth, own.group if group is None else group or None,
                      own.direct if scales is None else _DIRECT[scales])


def _shaped(model: ModelShape, form: WeightForm, head: bool) -> _Model:
    shapes = dict(model.matrices()) | ({"lm_head": model.head} if head else {})
    return _Model(model.name, str(form.depth),
                  steps_of_shapes(shapes, form.depth, form.group, form.direct))


def _fitted(model: _Model, target: Target, cards: int | None, split: str) -> Plan:
    try:
        return fit(model.steps, target, cards, split == "layers")
    except PlacementError as error:
        raise PlacementError(f"{model.name}, d = {model.depth}: {error}") from None
