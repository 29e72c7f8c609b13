"""Process that fuzzes one target: ``python -m`` this module, ``ENGINE TARGET ...``."""

import argparse
import tempfile
from pathlib import Path

__all__ = ["main"]

#: Modules whose branches atheris counts.
_ROOMS = ["tritstream.golden", "tritstream.host", "tritstream.scripts.running.activations",
          "tritstream.scripts.evaluation.store"]


def main() -> None:
    """Fuzz for the given time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("engine")
    parser.add_argument("target")
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--notes", type=Path, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--most", type=int)
    options = parser.parse_args()
    if options.engine == "atheris":
        _instrument(options.target)
    _fuzz(options)


def _instrument(target: str) -> None:
    """Import the modules whose coverage atheris measures."""
    import atheris

    from tritstream.scripts.assurance.fuzz.targets import load_target

    with atheris.instrument_imports(include=_ROOMS, enable_loader_override=False):
        load_target(target)


def _fuzz(options: argparse.Namespace) -> None:
    from tritstream.scripts.assurance.fuzz.engine import Session, guided_inputs, random_inputs
    from tritstream.scripts.assurance.fuzz.targets import load_target

    target = load_target(options.target)
    # Memory of modules that are imported here does not count against an input.
    for data in target.seeds():
        target.run(data, Path(tempfile.mkdtemp(dir=options.folder)))
    session = Session(target, options.corpus, options.folder / "input", options.notes)
    if options.engine == "atheris":
        guided_inputs(session, options.seed, options.seconds)
    else:
        random_inputs(session, options.seed, options.seconds, options.most)


if __name__ == "__main__":
    main()
