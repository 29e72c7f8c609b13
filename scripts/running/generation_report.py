"""Report of a generation: as a dict of plain values, and as printed lines."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from tritstream.host.protocol.records import Info
from tritstream.scripts.console import table

if TYPE_CHECKING:
    from tritstream.host.model.generation import Generation, Phase
    from tritstream.host.model.traffic import Traffic

__all__ = ["make_report", "project", "show"]


def make_report(
    result: "Generation", info: Info | None, traffic: "Traffic", clock: float | None,
    link: float | None,
) -> dict:
    """Return the report of a generation as plain values.

    Parameters
    ----------
    result : Generation
    info : Info or None
        Description of the device, if the backend has one.
    traffic : Traffic
        Bytes of weights per token.
    clock : float or None
        Clock in MHz to project to; None is the clock of the device, which a simulation lacks.
    link : float or None
        Rate in MB/s of the link to project to.
    """
    phases = {name: _phase(getattr(result, name), info) for name in ("prefill", "decode")}
    rate = clock * 1e6 if clock else info.clock_hz if info else 0
    return {
        "text": result.text, "prompt_ids": result.prompt, "token_ids": result.tokens,
        "interrupted": result.interrupted, "device": asdict(info) if info else None, **phases,
        "weight_bytes": {**asdict(traffic), "packed_share": traffic.packed_share},
        "projection": project(phases["decode"], rate, link * 1e6 if link else 0),
    }


def project(phase: dict, clock: float, link: float) -> dict | None:
    """Project a phase to a clock in Hz and a link in bytes per second, where 0 means unknown.

    Computation and transfer overlap, so the device takes the longer of its cycles and of the time
    that its words take on the link. The host adds the time that it spent here, apart from waiting
    for the device. Returns None if there is nothing to project.
    """
    if not phase.get("cycles") or not (clock or link):
        return None
    times = {"clock": phase["cycles_per_token"] / clock if clock else 0,
             "link": phase["bytes_per_token"] / link if link else 0}
    bound = max(times, key=times.__getitem__)
    return {"clock_hz": clock, "link_bytes_per_second": link, "bound": bound,
            "device_tokens_per_second": 1 / times[bound],
            "host_seconds_per_token": phase["host_seconds_per_token"],
            "tokens_per_second": 1 / (times[bound] + phase["host_seconds_per_token"])}


def _phase(phase: "Phase", info: Info | None) -> dict:
    tokens, stats = max(1, phase.tokens), phase.cost.stats
    times = {"tokens": phase.tokens, "seconds": phase.seconds,
             "tokens_per_second": phase.tokens / phase.seconds if phase.seconds else 0.0}
    if info is None:
        return times
    return times | asdict(stats) | {
        "host_seconds_per_token": (phase.seconds - phase.cost.seconds) / tokens,
        "cycles_per_token": stats.cycles / tokens,
        "bytes_per_token": stats.stream_bytes / tokens,
    }


def show(report: dict) -> None:
    """Print the figures of a report, after the text."""
    print("\n")
    _show_phases(report)
    traffic = report["weight_bytes"]
    host = traffic["head"] + traffic["embedding"] + traffic["other"]
    print(f"\nweights of a token: {_size(traffic['packed'])} packed, "
          f"{_size(host)} kept by the host (head {_size(traffic['head'])}, embedding row "
          f"{_size(traffic['embedding'])}, norms and biases {_size(traffic['other'])}): "
          f"{traffic['packed_share']:.1%} packed")
    if report["projection"]:
        _show_projection(report["projection"])
    if "compared" in report:
        _show_comparison(report["compared"])


def _show_phases(report: dict) -> None:
    columns = ["", "tokens", "seconds", "tokens/s"]
    if report["device"]:
        columns += ["cycles/token", "MB/token", "words", "input stalls", "output stalls",
                    "retries", "host ms/token"]
    table("", columns, [_row(name, report[name]) for name in ("prefill", "decode")])


def _row(name: str, phase: dict) -> list[str]:
    row = [name, str(phase["tokens"]), f"{phase['seconds']:.2f}",
           f"{phase['tokens_per_second']:.2f}"]
    if "cycles" in phase:
        row += [f"{phase['cycles_per_token']:.0f}", f"{phase['bytes_per_token'] / 1e6:.3f}",
                str(phase["words"]), str(phase["input_stalls"]), str(phase["output_stalls"]),
                str(phase["retries"]), f"{1e3 * phase['host_seconds_per_token']:.1f}"]
    return row


def _show_projection(projection: dict) -> None:
    places = [f"{projection['clock_hz'] / 1e6:g} MHz"] if projection["clock_hz"] else []
    if projection["link_bytes_per_second"]:
        places.append(f"a link of {projection['link_bytes_per_second'] / 1e6:g} MB/s")
    print(f"projected to {' and '.join(places)}: the device alone "
          f"{projection['device_tokens_per_second']:.2f} tokens/s, bound by its "
          f"{projection['bound']}; with what this host took "
          f"{projection['tokens_per_second']:.2f} tokens/s")


def _show_comparison(compared: dict) -> None:
    line = (f"{compared['model']} would have taken {compared['same']} of the "
            f"{len(compared['choices'])} tokens")
    if (first := compared["first_difference"]) is not None:
        line += (f"; the first other is number {first + 1}, {compared['choices_text'][first]!r} "
                 f"in place of {compared['tokens_text'][first]!r}")
    print(line)


def _size(count: int) -> str:
    return f"{count / 1e6:.3f} MB" if count >= 10_000 else f"{count} B"
