"""Format version 5: groups of any length, and scales of the source, next to the trits."""

import json

import ml_dtypes
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.matrix import TritMatrix, dequantize
from tritstream.golden.packed.export import export
from tritstream.golden.packed.layout import Layout
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import Finding, verify
from tritstream.golden.trit import decode

from support.golden_cases import direct_matrix, integer_matrix
from support.golden_helpers import message, rewrite
from support.grouped import layout_of, write_grouped

MATRICES = {
    "a.direct": direct_matrix(11, 100, 1, 32),
    "a.inverse": direct_matrix(7, 50, 2, 48, ml_dtypes.bfloat16, seed=1, inverse=True),
    "a.single": direct_matrix(6, 300, 1, 304, np.float32, seed=2, single=True),
    "a.row": direct_matrix(5, 64, 3, 64, seed=3),
    "a.coded": integer_matrix(9, 100, 4, group=64),
    "a.tiles": integer_matrix(4, 20, 2),
}
LAYOUTS = {name: Layout() if name == "a.tiles" else layout_of(matrix)
           for name, matrix in MATRICES.items()}
DTYPES = {"F16": np.float16, "BF16": ml_dtypes.bfloat16, "F32": np.float32}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("grouped")
    reports = write_grouped(path / "m", path / "o", MATRICES, LAYOUTS)
    return path / "o", reports


@pytest.fixture
def packed(tmp_path):
    write_grouped(tmp_path / "m", tmp_path / "o", MATRICES, LAYOUTS)
    return tmp_path / "o"


def digits_of(packed, rows):
    """Digits by row and byte of trits or codes."""
    return decode(packed).swapaxes(-1, -2).swapaxes(1, -2).reshape(-1, packed[0].size)[:rows]


def test_bytes_are_those_of_the_specification(written):
    path, _ = written
    tensors = load_file(path / "packed.safetensors")
    with safe_open(path / "packed.safetensors", "numpy") as file:
        records = json.loads(file.metadata()["tritstream"])
    config = json.loads((path / "config.json").read_text())["quantization_config"]
    assert (config["format_version"], config["group_size"]) == (5, 304)
    for name, matrix in MATRICES.items():
        rows, columns = matrix.shape
        record = records[f"{name}.trits"]
        assert record["shape"] == [rows, columns]
        if name == "a.tiles":
            assert "group" not in record and f"{name}.codes" not in tensors
            continue
        assert (record["group"], record["scales"]) == (matrix.group, name.partition(".")[2] if name
                                                       in ("a.coded", "a.inverse") else "direct")
        trits = tensors[f"{name}.trits"]
        assert trits.shape == (-(-rows // 5), -(-columns // 16) * 16 * matrix.depth)
        digits = decode(trits)                                      # (row tile, byte, row)
        for n, k in np.ndindex(rows, columns):
            own = [(0, 1, -1)[digits[n // 5, k * matrix.depth + i, n % 5]]
                   for i in range(matrix.depth)]
            assert sum(trit * 3 ** i for i, trit in enumerate(own)) == matrix.q[n, k]
        if isinstance(matrix, TritMatrix):
            codes = decode(tensors[f"{name}.codes"])                # (row tile, group, i, row)
            assert codes.shape == (-(-rows // 5), -(-columns // matrix.group), 3, 5)
            for n, g in np.ndindex(matrix.codes.shape):
                code = sum(int(codes[n // 5, g, i, n % 5]) * 3 ** i for i in range(3))
                assert code == matrix.codes[n, g]
            assert tensors[f"{name}.scales"].tobytes() == matrix.table.tobytes()
        else:
            assert tensors[f"{name}.scales"].dtype == matrix.scales.stored.dtype
            assert tensors[f"{name}.scales"].tobytes() == matrix.scales.stored.tobytes()
            assert tensors[f"{name}.scales"].shape == matrix.scales.stored.shape


def test_what_is_read_is_what_was_written(written):
    checkpoint = PackedCheckpoint(written[0])
    for name, matrix in MATRICES.items():
        read = checkpoint.matrix(name)
        assert type(read) is type(matrix)
        assert (read.depth, read.shape, read.group) == (matrix.depth, matrix.shape, matrix.group)
        np.testing.assert_array_equal(read.q, matrix.q)
        assert dequantize(read).tobytes() == dequantize(matrix).tobytes()
        assert checkpoint.matrices[name].layout == LAYOUTS[name]
    with pytest.raises(ValueError, match=r"^a\.direct has direct scales of 32 weights, not tiles$"):
        checkpoint.tiles("a.direct")


def test_export_has_the_values(written, tmp_path):
    export(written[0], tmp_path / "e")
    exported = load_file(tmp_path / "e" / "model.safetensors")
    for name, matrix in MATRICES.items():
        assert exported[f"{name}.weight"].tobytes() == dequantize(matrix).tobytes()


def test_bits_per_weight(written):
    reports = {report.name: report for report in written[1]}
    # 11 rows take three row tiles of 112 bytes; 4 scales of 16 bits per row.
    assert reports["a.direct"].size == 3 * 112 + 11 * 4 * 2
    assert reports["a.single"].size == 2 * 304 + 4
    assert reports["a.coded"].size == 2 * 112 * 4 + 27 * 4 + 2 * 2 * 3
    for name, report in reports.items():
        assert report.stored_bits == 8 * report.size / np.prod(MATRICES[name].shape)


def test_verify_finds_nothing_but_scales_that_a_device_rounds(written):
    found = [finding for finding in verify(written[0]) if finding.tensor != "a.tiles.scales"]
    exact = PackedCheckpoint(written[0]).matrix("a.inverse").scales.exactness
    assert found == [Finding("a.inverse.scales", (
        f"{exact.groups} scales in {exact.rows} of 7 rows are not exact in the 16-bit mantissas of "
        f"a device, by {exact.error:.2g} of a scale at most; `--backend reference` computes with "
        "the stored values"), "warning")]


@pytest.mark.parametrize(("name", "place", "value", "tensor", "fault", "kind"), [
    ("a.direct.trits", (2, 0), 0x80, "a.direct.trits", "the padding is not zero", "error"),
    ("a.direct.trits", (0, 100), 1, "a.direct.trits", "the padding is not zero", "error"),
    ("a.direct.trits", (0, 0), 0xfe, "a.direct.trits",
     "1 bytes are the second code of their trits", "warning"),
    ("a.coded.codes", (1, 0, 0), 0x80, "a.coded.codes", "the padding is not zero", "error"),
])
def test_verify_finds_wrong_bytes(packed, name, place, value, tensor, fault, kind):
    def change(tensors, _):
        tensors[name] = tensors[name].copy()
        tensors[name][place] = value

    rewrite(packed, change)
    assert Finding(tensor, fault, kind) in verify(packed)


@pytest.mark.parametrize(("value", "text"), [
    (-0.5, "finite and not negative, not -0.5"), (np.inf, "finite and not negative, not inf")])
def test_damaged_scales(packed, value, text):
    def change(tensors, _):
        tensors["a.direct.scales"] = tensors["a.direct.scales"].copy()
        tensors["a.direct.scales"][3, 1] = value

    rewrite(packed, change)
    fault = (f"{packed / 'packed.safetensors'}: a.direct.scales: scales must be {text} at row 3, "
             "group 1; copy it again")
    assert Finding("a.direct.scales", fault) in verify(packed)
    with pytest.raises(CheckpointError, match=message(fault)):
        PackedCheckpoint(packed).matrix("a.direct")


def record(name, **fields):
    def change(_, records):
        records[f"{name}.trits"] |= fields
    return change


@pytest.mark.parametrize(("change", "fault"), [
    (record("a.direct", group=40), "a.direct.trits: group must be a multiple of 16 up to 112 for "
                                   "100 columns, not 40; copy it again"),
    (record("a.direct", group=128), "a.direct.trits: group must be a multiple of 16 up to 112 for "
                                    "100 columns, not 128; copy it again"),
    (record("a.direct", group=64), "a.direct.scales must be F16 (11, 2), not F16 (11, 4); copy it "
                                   "again"),
    (record("a.direct", scales="other"), "a.direct.trits has scales 'other', which this version "
                                         "does not know; update tritstream"),
    (record("a.direct", scales="coded"), "a.direct.scales must be F32 (27,), not F16 (11, 4); copy "
                                         "it again"),
    (record("a.tiles", group=32), "tritstream in its metadata cannot be read; copy it again"),
    (lambda tensors, _: tensors.update({"a.direct.scales": np.zeros((11, 4), np.int16)}),
     "a.direct.scales must be BF16, F16, F32, not I16; copy it again"),
    (lambda tensors, records: (tensors.pop("a.coded.codes"), records.pop("a.coded.codes")),
     "a.coded.trits has no a.coded.codes; copy it again"),
])
def test_inconsistent_files(packed, change, fault):
    rewrite(packed, change)
    with pytest.raises(CheckpointError, match=message(f"{packed / 'packed.safetensors'}: {fault}")):
        PackedCheckpoint(packed)


@pytest.mark.parametrize(("version", "size", "fault"), [
    (4, 304, "group_size must be 16, not 304"), (5, 24, "group_size must be a multiple of 16, not "
                                                        "24"),
    (5, None, "group_size must be a multiple of 16, not None")])
def test_wrong_group_size(packed, version, size, fault):
    config = json.loads((packed / "config.json").read_text())
    config["quantization_config"] |= {"format_version": version, "group_size": size}
    (packed / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message(f"{packed / 'config.json'}: {fault}; copy it "
                                                      "again")):
        PackedCheckpoint(packed)


@pytest.mark.parametrize("name", ["a.direct.scales", "a.coded.codes"])
def test_names_that_the_source_has_already(tmp_path, name):
    with pytest.raises(CheckpointError, match=f"{name} has a name that packed matrices take"):
        write_grouped(tmp_path / "m", tmp_path / "o", MATRICES, LAYOUTS,
                      more={name: np.zeros(3, np.float32)})
