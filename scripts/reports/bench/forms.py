"""Options of measurements on a model of any size, with weights of any form."""

from dataclasses import replace
from typing import Annotated, Any

import typer

from tritstream.golden.model_sizes import QWEN25
from tritstream.host.layout.shapes import SHAPES, ModelShape, model_shape

__all__ = ["KINDS", "MODEL_NAMES", "FormDepth", "FormGroup", "FormScales", "formed", "short_name"]

#: Kinds of scales: by code, a number per group, a number per matrix.
KINDS = ("coded", "direct", "matrix")
#: Names of all models, for help texts.
MODEL_NAMES = ", ".join(SHAPES)

FormDepth = Annotated[int | None, typer.Option(
    "--depth", "-d", help="Trits per weight, 1..4.",
    show_default="as published; 3 for Qwen2.5")]
FormGroup = Annotated[int | None, typer.Option(
    "--group", help="Weights of a row that share a scale, a multiple of 16.",
    show_default="as published; 16 for Qwen2.5")]
FormScales = Annotated[str | None, typer.Option(
    "--scales", help="Scales of the weights: coded, direct (float16), or matrix for one float16 "
                     "per matrix.", show_default="as published; coded for Qwen2.5")]


def formed(
    name: str, depth: int | None = None, group: int | None = None, scales: str | None = None,
) -> ModelShape:
    """Return a model by name, or by the size of a Qwen2.5, with the form of its weights changed.

    Raises :class:`ValueError` for an unknown name or kind, or a form that is not possible.
    """
    model = model_shape(f"qwen2.5-{name}" if name in QWEN25 else name)
    if scales not in (None, *KINDS):
        raise ValueError(f"--scales must be {', '.join(KINDS)}, not {scales!r}")
    if scales == "matrix" and group is not None:
        raise ValueError("--scales matrix has no groups; leave out --group")
    changes: dict[str, Any] = {}
    if depth is not None:
        changes["depth"] = depth
    if scales is not None:
        changes["direct"] = scales != "coded"
    if group is not None or scales == "matrix":
        changes["group"] = group
    return model.in_form(replace(model.form, **changes))


def short_name(model: ModelShape) -> str:
    """Return the name of a model in tables: the size alone for Qwen2.5."""
    return model.name.removeprefix("Qwen2.5-")
