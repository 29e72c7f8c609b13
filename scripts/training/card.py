"""Model card of the tiny Qwen2 model, and the figures in it."""

from pathlib import Path
from string import Template
from typing import Any

from tritstream.scripts.console import write_json

__all__ = ["write_figures"]

CARD = Path(__file__).parents[2] / "models" / "card.md"


def write_figures(directory: Path, figures: dict[str, Any]) -> None:
    """Write `training.json`, and the model card with the same figures."""
    write_json(directory / "training.json", figures)
    template = Template(CARD.read_text(encoding="utf-8"))
    card = template.substitute(
        command=figures["command"],
        parameters=f"{figures['parameters']:,}",
        size=f"{(directory / 'model.safetensors').stat().st_size:,}",
        versions=", ".join(f"{name} {number}" for name, number in figures["versions"].items()),
        recipe=", ".join(f"{name} {value}" for name, value in figures["recipe"].items()),
        minutes=f"{figures['seconds'] / 60:.0f}",
        texts=_text_rows(figures),
        losses=_loss_rows(figures["bits_per_byte"]),
        prompt=figures["prompt"],
        **figures["validation"],
    )
    (directory / "README.md").write_text(card, encoding="utf-8")


def _text_rows(figures: dict[str, Any]) -> str:
    held_out = figures["validation"]["name"]
    return "\n".join(
        f"| {text['name']} | {'validation' if text['name'] == held_out else 'training'} "
        f"| {text['bytes']:,} | `{text['sha256']}` |"
        for text in figures["corpus"]
    )


def _loss_rows(losses: dict[str, Any]) -> str:
    rows = [("untrained, BF16", losses["untrained"]), ("trained, BF16", losses["trained"])]
    rows += [(f"trained, packed, d = {depth}", loss) for depth, loss in losses["packed"].items()]
    return "\n".join(f"| {name} | {loss:.3f} |" for name, loss in rows)
