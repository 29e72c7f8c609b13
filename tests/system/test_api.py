"""The public names of ``import tritstream``."""

import asyncio
import os
import subprocess
import sys

import numpy as np
import pytest

import tritstream

WEIGHTS = np.random.default_rng(1).normal(size=(21, 50)).astype(np.float32)
X = np.random.default_rng(2).normal(size=(2, 50))


def test_every_exported_name_is_there_and_listed():
    assert sorted(tritstream.__all__) == sorted(tritstream._MODULES)
    for name in tritstream.__all__:
        assert callable(getattr(tritstream, name))
    assert set(tritstream.__all__) <= set(dir(tritstream))


def test_a_name_that_does_not_exist():
    with pytest.raises(AttributeError, match="^module 'tritstream' has no attribute 'qantize'$"):
        _ = tritstream.qantize


@pytest.mark.parametrize("depth", [1, 3])
def test_a_matrix_comes_back_from_its_tiles(depth):
    matrix = tritstream.quantize(WEIGHTS, depth)
    again = tritstream.unpack(tritstream.pack(matrix), depth, matrix.shape, matrix.table)
    np.testing.assert_array_equal(tritstream.dequantize(again), tritstream.dequantize(matrix))


@pytest.mark.parametrize(("group", "scales"), [(16, "direct"), (32, "coded"), (64, "direct")])
def test_groups_and_direct_scales(group, scales):
    matrix = tritstream.quantize(WEIGHTS, 2, group=group, scales=scales)
    assert (matrix.group, type(matrix).__name__) == (
        group, "TritMatrix" if scales == "coded" else "DirectMatrix")
    assert tritstream.relative_error(WEIGHTS, matrix) < 0.05
    exact = tritstream.dequantize(matrix).astype(np.float64) @ X.T
    np.testing.assert_allclose(tritstream.multiply(matrix, X), exact.T, atol=0.2)
    np.testing.assert_array_equal(tritstream.multiply(matrix, X, device="sim:lanes=4"),
                                  tritstream.multiply(matrix, X))
    with pytest.raises(ValueError, match="^tiles have groups of 16 with coded scales, not groups "
                                         f"of {group} with {scales} scales; packed_matrix packs"):
        tritstream.pack(matrix)


def test_the_error_is_that_of_the_dequantized_weights():
    matrix = tritstream.quantize(WEIGHTS, 2, method="tritllm-v2")
    off = tritstream.dequantize(matrix).astype(np.float64) - WEIGHTS
    wanted = np.square(off).sum() / np.square(WEIGHTS.astype(np.float64)).sum()
    assert tritstream.relative_error(WEIGHTS, matrix) == pytest.approx(wanted, rel=1e-12)
    assert tritstream.relative_error(0 * WEIGHTS, tritstream.quantize(0 * WEIGHTS)) == 0
    with pytest.raises(ValueError, match=r"^weights must have shape \(21, 50\), not \(50, 21\)$"):
        tritstream.relative_error(WEIGHTS.T, matrix)


def test_products_on_a_simulated_device_equal_the_reference():
    matrix = tritstream.quantize(WEIGHTS)
    levels, _ = tritstream.quantize_activation(X)
    sums = tritstream.gemv(matrix, levels)
    np.testing.assert_array_equal(tritstream.gemv(matrix, levels, device="sim:lanes=4"), sums)
    np.testing.assert_array_equal(tritstream.multiply(matrix, X, device="sim:lanes=4"),
                                  tritstream.multiply(matrix, X))


def test_a_device_works_inside_a_running_event_loop():
    matrix = tritstream.quantize(WEIGHTS)

    async def cell():
        with tritstream.SyncDevice("sim:lanes=4") as device:
            return device.info().lanes, device.multiply(matrix, X[0])

    lanes, found = asyncio.run(cell())
    assert lanes == 4
    np.testing.assert_array_equal(found, tritstream.multiply(matrix, X[0]))


def test_files_of_the_user_with_our_names_change_nothing(tmp_path):
    for name in ("host.py", "golden.py", "scripts/__init__.py", "hw/__init__.py", "sim.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("raise SystemExit('this file is the user\\'s')\n")
    done = subprocess.run(
        [sys.executable, "-m", "tritstream", "--version"], cwd=tmp_path, capture_output=True,
        text=True, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("tritstream ")
