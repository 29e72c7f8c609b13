"""The import contracts of pyproject.toml hold, and a lane needs no checkpoint code."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def installed_layout(place):
    """Copy the packages to the layout in which they are installed, which import-linter needs."""
    package = place / "tritstream"
    shutil.copytree(ROOT / "tritstream", package)
    for folder in ("golden", "hw", "sim", "host", "scripts"):
        shutil.copytree(ROOT / folder, package / folder,
                        ignore=shutil.ignore_patterns("__pycache__"))
    return place


def contracts(place):
    """Exit code and output of import-linter."""
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()",
         str(ROOT / "pyproject.toml"), "--no-cache"],
        cwd=place, env={**os.environ, "PYTHONPATH": str(place)}, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def test_import_contracts_hold(tmp_path):
    code, said = contracts(installed_layout(tmp_path))
    assert code == 0, said


def test_a_broken_import_contract_is_found(tmp_path):
    place = installed_layout(tmp_path)
    lane = place / "tritstream" / "hw" / "compute" / "lane.py"
    lane.write_text("from tritstream.golden.gemv import gemv\n" + lane.read_text())
    code, said = contracts(place)
    assert code == 1
    assert "tritstream.hw.compute.lane -> tritstream.golden.gemv" in said


def test_a_lane_needs_the_fixed_point_contract_and_nothing_else_of_golden():
    listed = subprocess.run(
        [sys.executable, "-c", "import sys, tritstream.hw.compute.lane; print(*sys.modules)"],
        capture_output=True, text=True, check=True).stdout.split()
    found = {name for name in listed if name.startswith("tritstream.golden")}
    assert found == {"tritstream.golden", "tritstream.golden.fixed_point"}
