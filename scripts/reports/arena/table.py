"""Table of the arena: bits and quality of each row, and which rows no other row beats."""

from math import sqrt

from tritstream.scripts.console import table

__all__ = ["arena_table", "mean_kl", "show"]


def mean_kl(row: dict) -> tuple[float, float]:
    """Return the mean divergence over the texts in nats per token, and its standard error."""
    found = [text["kl"] for text in row["texts"].values()]
    return (sum(kl["value"] for kl in found) / len(found),
            sqrt(sum(kl["error"] ** 2 for kl in found)) / len(found))


def arena_table(report: dict) -> tuple[list[str], list[list[str]]]:
    """Return the columns, and the rows by stored bits.

    The mean divergence of a row has a * if no row of as few bits has less.
    """
    texts = [name.removeprefix("evaluation-") for name in report["texts"]]
    rows = sorted(report["rows"], key=lambda row: row["stored_bits"])
    return (["row", "stored bits", "squared error", "mean KLD", *(f"KLD, {name}" for name in texts),
             "same top, %"], [_cells(row, rows) for row in rows])


def _cells(row: dict, rows: list[dict]) -> list[str]:
    least = min(mean_kl(other)[0] for other in rows if other["stored_bits"] <= row["stored_bits"])
    texts = row["texts"].values()
    same = sum(text["same_top"]["value"] for text in texts) / len(texts)
    return [row["name"], f"{row['stored_bits']:.2f}", f"{row['squared_error']:.2e}",
            _estimate(*mean_kl(row)) + "*" * (mean_kl(row)[0] <= least),
            *(_estimate(**text["kl"]) for text in texts), f"{100 * same:.1f}"]


def _estimate(value: float, error: float) -> str:
    return f"{value:.4f} ± {error:.4f}"


def show(report: dict) -> None:
    """Print the rows of a report by stored bits."""
    table("", *arena_table(report))
    perplexities = ", ".join(f"{found['value']:.2f} ± {found['error']:.2f} on {name}"
                             for name, found in report["base"]["perplexity"].items())
    print(f"\n{report['base']['scored_tokens']} tokens scored per text; perplexity of the base: "
          f"{perplexities}")
    print("KLD: divergence from the base in nats per token, ± one standard error; same top: share "
          "of tokens with the same most likely token, mean over texts; *: no row of as few bits "
          "has less mean KLD")
