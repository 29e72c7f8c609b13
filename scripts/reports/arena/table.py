"""Table of the arena: bits and quality of each row, and which rows no other row beats."""

from collections.abc import Sequence
from math import sqrt

from tritstream.scripts.console import table

__all__ = ["HEADS", "cells", "mean_kl", "show"]

HEADS = ["row", "stored bits", "squared error", "mean KLD"]


def mean_kl(row: dict) -> tuple[float, float]:
    """Return the mean divergence over the texts in nats per token, and its standard error."""
    found = [text["kl"] for text in row["texts"].values()]
    return (sum(kl["value"] for kl in found) / len(found),
            sqrt(sum(kl["error"] ** 2 for kl in found)) / len(found))


def cells(row: dict, rows: Sequence[dict]) -> list[str]:
    """Return a row of the table. * marks a row with less divergence than all of as few bits."""
    value, error = mean_kl(row)
    best = all(mean_kl(other)[0] >= value for other in rows
               if other["stored_bits"] <= row["stored_bits"])
    return [row["name"], f"{row['stored_bits']:.2f}", f"{row['squared_error']:.2e}",
            f"{value:.4f} ± {error:.4f}{'*' if best else ''}",
            *(f"{text['kl']['value']:.4f} ± {text['kl']['error']:.4f}"
              for text in row["texts"].values()),
            *(f"{100 * text['same_top']['value']:.1f}" for text in row["texts"].values())]


def show(report: dict) -> None:
    """Print the rows of a report by stored bits."""
    texts, rows = list(report["texts"]), report["rows"]
    table("", [*HEADS, *(f"KLD {name}" for name in texts), *(f"top {name}" for name in texts)],
          [cells(row, rows) for row in rows])
    perplexities = ", ".join(f"{found['value']:.2f} ± {found['error']:.2f} on {name}"
                             for name, found in report["base"]["perplexity"].items())
    print(f"\n{report['base']['scored_tokens']} tokens scored per text; perplexity of the base: "
          f"{perplexities}")
    print("KLD: divergence from the base in nats per token, ± one standard error; top: share of "
          "tokens with the same most likely token, %; *: less mean KLD than every row of as few "
          "bits")
