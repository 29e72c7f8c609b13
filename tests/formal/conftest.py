"""Fixture that runs a proof with its planted faults, and a table of all proofs at the end."""

import pytest
from formal.rules import planted

from tritstream.hw.tools.formal import Counterexample, Method, NotInductive, prove

_TABLE = pytest.StashKey[list]()


@pytest.fixture
def demonstrate(request, tmp_path):
    """Function that proves a specification, and refutes it for every planted fault.

    ``make`` builds it around a component; ``faults`` are functions of the component's module, the
    component, and give statements that outrank its own. They are looked for as the proof was made,
    or as ``refute`` says (method, depth): an induction may only tell that the proof is lost.
    """
    rows = request.config.stash.setdefault(_TABLE, [])

    def run(component, make, faults, method=Method.PDR, depth=0, refute=None, libraries=()):
        proof = prove(make(component()), tmp_path / "holds", method, depth, libraries)
        found = []
        for fault in faults:
            broken = component()
            planted(broken, lambda m, fault=fault, broken=broken: fault(m, broken))
            with pytest.raises((Counterexample, NotInductive)) as caught:
                prove(make(broken), tmp_path / fault.__name__, *(refute or (method, depth)),
                      libraries)
            found.append(fault.__name__ + "*" * (caught.type is NotInductive))
        rows.append((request.node.name.removeprefix("test_"), method.name, str(depth or "-"),
                     f"{proof.seconds:.1f}", ", ".join(found)))
    return run


def pytest_terminal_summary(terminalreporter, config):
    rows = config.stash.get(_TABLE, [])
    if not rows:
        return
    rows   = [("proof", "method", "depth", "s", "planted faults, all found (*: no proof)"), *rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    terminalreporter.section("proofs")
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        terminalreporter.write_line(line.rstrip())
