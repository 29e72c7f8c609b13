"""The search for comparisons that no test judges: which changes it makes, and that it tells."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.comparison_mutants import ROOT, mutants
from support.rtl_module_tests import TESTS

#: What outside trials broke and no test saw, before test_hw_check.
UNSEEN = {
    "a column compared in bits 0-7 and 31 only":
        ("header.arg0 >= config.columns", "header.arg0 & 0x800000FF >= config.columns"),
    "K of unused columns judged":
        ('unequal |= used & _late(m, length != fields.chunks',
         'unequal |= _late(m, length != fields.chunks'),
}


def outcome(module: str, before: str, after: str, tmp_path: Path) -> str:
    """Outcome of a change, in a process that has not imported ``tritstream.hw`` yet."""
    source = (ROOT / "hw" / f"{module}.py").read_text()
    assert source.count(before) == 1
    changed = tmp_path / "changed.py"
    changed.write_text(f"{source.replace(before, after)}\n_hardware(Signal())\n")
    program = ("import sys; from pathlib import Path; "
               "from support import comparison_mutants as search; search.preload(); "
               "print(search.ModuleTests(sys.argv[1]).outcome(Path(sys.argv[2]).read_text()))")
    return subprocess.run([sys.executable, "-c", program, module, changed], check=True, text=True,
                          capture_output=True, env={**os.environ, "PYTHONPATH": ROOT / "tests"}
                          ).stdout.strip()


@pytest.mark.parametrize("name", UNSEEN)
def test_what_no_test_saw_is_found(name, tmp_path):
    assert outcome("control/request_check", *UNSEEN[name], tmp_path) == "found"


def test_a_change_of_nothing_survives(tmp_path):
    assert outcome("compute/trit_unpacker", "_BYTE = 8", "_BYTE = 4 + 4", tmp_path) == "survived"


def test_every_comparison_is_changed_in_every_way():
    source = "with m.If((a[:8] == 3) & b.any()):\n    x = c < d[2:]\n"
    changed = [(mutant.kind, mutant.applied(source).splitlines()[mutant.line - 1])
               for mutant in mutants("x", source)]
    assert len(changed) == 2 * 6 + 2 + 2 + 3 + 2
    assert ("!=", "with m.If(((_hardware(a[:8]) != (3))) & b.any()):") in changed
    assert ("right - 1", "    x = (_hardware(c) < ((d[2:]) - 1))") in changed
    assert ("top bit not compared", "    x = _blind(c, '<', d[2:], 'top')") in changed
    assert ("high - 1", "with m.If((_hardware(a)[:(8) - 1] == 3) & b.any()):") in changed
    assert ("of [1:]", "with m.If((a[:8] == 3) & _hardware(b)[1:].any()):") in changed
    assert ("without & left", "with m.If(_hardware(b.any())):") in changed


def test_modules_and_tests_are_there():
    for module, files in TESTS.items():
        assert (ROOT / "hw" / f"{module}.py").exists()
        assert all((ROOT / "tests" / "hw" / name).exists() for name in files)
