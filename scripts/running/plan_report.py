"""What `tritstream plan` prints of a plan."""

from collections.abc import Sequence
from dataclasses import asdict

from tritstream.host.placement.forecast import forecast
from tritstream.host.placement.plan import Plan
from tritstream.host.placement.targets import Target
from tritstream.scripts.console import table

__all__ = ["PLAN_COLUMNS", "plan_record", "plan_row", "show_plans"]

#: Channels that are listed one by one.
_LISTED = 16
PLAN_COLUMNS = ["model", "d", "target", "cards", "channels", "packed MB", "MB with padding",
                "MB per channel", "of", "cycles", "round trips", "share of peak", "tokens/s",
                "without link", "roofline"]


def plan_record(model: str, depth: str, target: Target, split: str, plan: Plan) -> dict:
    """Return a plan and the projected time of a token as a record of a report."""
    time, held = forecast(plan, target), plan.nbytes
    parts = [share for shares in plan.shares.values() for share in shares]
    return {
        "model": model, "depth": depth, "split": split, "target": asdict(target),
        "cards": len({unit.card for unit in plan.units}),
        "channel_bytes": held,
        "capacity": target.memory - target.reserved,
        "matrices": len(plan.shares), "parts": len(parts),
        "column_parts": sum(share.span.chunks != share.work.span.chunks for share in parts),
        **asdict(time), "tokens": time.tokens,
    }


def plan_row(record: dict) -> list[str]:
    """Return a record as a row of :data:`PLAN_COLUMNS`."""
    held = record["channel_bytes"]
    return [record["model"], record["depth"], record["target"]["title"], str(record["cards"]),
            str(len(held)), f"{record['packed'] / 1e6:.1f}",
            f"{record['words'] / 1e6:.1f}", f"{max(held) / 1e6:.1f}",
            f"{record['capacity'] / 1e6:.1f}", f"{record['cycles']:.0f}",
            f"{record['round_trips']:.0f}", f"{record['bandwidth_share']:.3f}",
            f"{record['tokens']:.2f}", f"{1 / record['seconds']:.2f}",
            f"{record['roofline']:.2f}"]


def show_plans(records: Sequence[dict]) -> None:
    """Print one plan with its channels, or several as a table."""
    print("PROJECTED by the formula of the cycles from the figures of the target, which may be "
          "assumptions; not measured.\n")
    if len(records) > 1:
        table("", PLAN_COLUMNS, [plan_row(one) for one in records], texts=3)
    else:
        _show(records[0])


def _show(one: dict) -> None:
    target, sizes = one["target"], [size / 1e6 for size in one["channel_bytes"]]
    link = f", {one['link_seconds']:.4f} s on the link" if target["write"] else ""
    lines = {
        "model": f"{one['model']}, d = {one['depth']}: {one['matrices']} matrices, "
                 f"{one['packed'] / 1e6:.1f} MB read per token",
        "target": f"{one['cards']} x {target['title']}: {len(sizes)} x {target['lanes']} lanes "
                  f"at {target['clock'] / 1e6:g} MHz",
        "memory": f"{sum(sizes):.1f} MB with padding, {min(sizes):.1f} to {max(sizes):.1f} of "
                  f"{one['capacity'] / 1e6:.1f} MB per channel",
        "cut": f"{one['parts']} parts, of which {one['column_parts']} have some columns only",
        "time": f"{one['cycles']:.0f} cycles per token, {one['seconds']:.4f} s with the memory"
                f"{link}",
        "round trips": f"{one['round_trips']:.0f} per token, whose delay is not counted",
        "bandwidth": f"{one['bandwidth_share']:.3f} of the peak, "
                     f"{target['bandwidth'] * len(sizes) / 1e9:.1f} GB/s",
        "tokens/s": f"{one['tokens']:.2f} projected, {one['roofline']:.2f} roofline",
    }
    for name, text in lines.items():
        print(f"{name:<12} {text}")
    print("The time of the host (attention, norms, a head that is not packed) is not counted.")
    if len(sizes) <= _LISTED:
        print()
        table("", ["card", "channel", "MB"], [
            [str(place // target["channels"]), str(place % target["channels"]), f"{size:.1f}"]
            for place, size in enumerate(sizes)])
    if target["sources"]:
        print("\nfigures of the target")
        for name, source in target["sources"].items():
            print(f"  {name:<10} {source}")
