"""Model cards of the shipped models, and the figures in them."""

import json
from pathlib import Path
from string import Template
from typing import Any

from tritstream.scripts.console import write_json

__all__ = ["write_figures", "write_ternary_card"]

CARD = Path(__file__).parents[2] / "models" / "card.md"
TERNARY_CARD = CARD.with_name("ternary-card.md")


def write_figures(directory: Path, figures: dict[str, Any]) -> None:
    """Write `training.json`, and the model card with the same figures."""
    write_json(directory / "training.json", figures)
    template = Template(CARD.read_text(encoding="utf-8"))
    card = template.substitute(
        command=figures["command"],
        parameters=f"{figures['parameters']:,}",
        size=f"{(directory / 'model.safetensors').stat().st_size:,}",
        versions=_listed(figures["versions"]),
        recipe=_listed(figures["recipe"]),
        minutes=f"{figures['seconds'] / 60:.0f}",
        texts=_text_rows(figures),
        losses=_loss_rows(figures["bits_per_byte"]),
        prompt=figures["prompt"],
        **figures["validation"],
    )
    (directory / "README.md").write_text(card, encoding="utf-8")


def write_ternary_card(directory: Path, base: Path) -> None:
    """Write the card of the ternary model that was trained from `base`, from both figures."""
    figures = json.loads((directory / "training.json").read_text())
    before = json.loads((base / "training.json").read_text())["bits_per_byte"]
    card = Template(TERNARY_CARD.read_text(encoding="utf-8")).substitute(
        size=f"{(directory / 'model.safetensors').stat().st_size:,}",
        base_sha256=f"SHA-256 `{figures['base_sha256'][:16]}...`",
        bf16=f"{before['trained']:.3f}",
        packed="\n".join(f"| tiny-qwen2, packed after training, d = {depth} | {loss:.3f} |"
                         for depth, loss in before["packed"].items()),
        floats=f"{figures['bits_per_byte']['floats']:.3f}",
        integers=f"{figures['bits_per_byte']['8 bits']:.3f}",
        command=figures["command"], minutes=f"{figures['seconds'] / 60:.0f}",
        versions=_listed(figures["versions"]), recipe=_listed(figures["recipe"]),
        name=figures["validation"]["name"])
    (directory / "README.md").write_text(card, encoding="utf-8")


def _listed(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in fields.items())


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
