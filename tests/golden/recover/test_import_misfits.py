"""Matrices that do not fit: refused by name, kept on request, and reported by a probe."""

import threading
import time

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.golden.recover import Misfit, Unfit, recover, survey
from tritstream.golden.recover.import_checkpoint import import_checkpoint, probe_checkpoint
from tritstream.golden.rounding import FORMS

from support.golden_helpers import contents, message
from support.published import change_tensor, write_checkpoint

UP = "model.layers.1.mlp.up_proj"


def test_a_damaged_sum_of_digits_is_refused_by_name(tmp_path):
    write_checkpoint(tmp_path / "m", inner="float16", form="s*p/h, low first")
    change_tensor(tmp_path / "m", f"{UP}.weight", (17, 40), 0.777)
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm/model.safetensors'}: {UP}.weight does not fit: nearest is d = 3, "
            "sum t*R(R(s*p)/h) low first in float16, which leaves 1 of 640 groups over, the first "
            "at row 17, column 32, with ratios ").removesuffix("$")):
        import_checkpoint(tmp_path / "m", tmp_path / "o", 3)


@pytest.fixture
def damaged(tmp_path):
    """Checkpoint with one changed value, a matrix with an infinity, and a random matrix."""
    write_checkpoint(tmp_path / "m")
    file = tmp_path / "m" / "model.safetensors"
    change_tensor(tmp_path / "m", f"{UP}.weight", (17, 40), 0.777)
    change_tensor(tmp_path / "m", "model.layers.1.self_attn.q_proj.weight", (3, 4), -np.inf)
    random = np.random.default_rng(0).standard_normal((64, 160)) * 0.02
    return file, change_tensor(tmp_path / "m", "model.layers.1.mlp.down_proj.weight", ..., random)


def test_a_misfit_is_refused_by_name(tmp_path, damaged):
    file, _ = damaged
    before = contents(tmp_path / "m")
    with pytest.raises(CheckpointError, match=message(
            f"{file}: model.layers.1.mlp.down_proj.weight does not fit: more than 1080 distinct "
            "magnitudes in its first 64 rows, which is not what 27 scales make; keep going to "
            "leave it as it is")):
        import_checkpoint(tmp_path / "m", tmp_path / "o", 3)
    assert not (tmp_path / "o").exists()
    assert contents(tmp_path / "m") == before


def test_no_matrix_starts_after_a_misfit(model, tmp_path, monkeypatch):
    seen = []

    def slow(weights, name, *_):
        seen.append(name)
        if len(seen) == 1:
            return recover(weights)
        time.sleep(0.3)
        raise Misfit(Unfit(f"{name} is odd", 1))

    monkeypatch.setattr(survey, "recover", slow)
    before = set(threading.enumerate())     # other tests may have left some
    with pytest.raises(CheckpointError, match="weight is odd; keep going to leave it as it is$"):
        import_checkpoint(model, tmp_path / "o")
    assert 1 < len(seen) < 14
    assert set(threading.enumerate()) <= before


def test_misfits_are_kept_on_request(tmp_path, damaged):
    _, tensors = damaged
    with pytest.raises(CheckpointError):
        import_checkpoint(tmp_path / "m", tmp_path / "o", 3)
    report = import_checkpoint(tmp_path / "m", tmp_path / "o", 3, keep_going=True)
    misfits = {found.name: found.outcome.reason for found in report.misfits}
    assert misfits.keys() == {UP, "model.layers.1.self_attn.q_proj",
                              "model.layers.1.mlp.down_proj"}
    assert misfits[UP].startswith(f"{UP}.weight does not fit: nearest is d = 3, s*q/h, which "
                                  "leaves 1 of 640 groups over, the first at row 17, column 32, ")
    assert misfits["model.layers.1.self_attn.q_proj"] == (
        "model.layers.1.self_attn.q_proj.weight must be finite, not -inf at row 3, column 4")
    packed = PackedCheckpoint(tmp_path / "o")
    assert len(packed.matrices) == 11
    for name in misfits:
        kept = packed.read_kept(f"{name}.weight")
        assert kept.tobytes() == tensors[f"{name}.weight"].tobytes()
        assert name in packed.config["quantization_config"]["modules_to_not_convert"]
    finding, = verify(tmp_path / "o", tmp_path / "m")
    assert (finding.kind, finding.tensor) == ("warning", "model.layers.1.self_attn.q_proj.weight")
    assert "(0 NaN, 1 infinite), the first at [3, 4]" in finding.message


def test_nothing_fits(tmp_path):
    write_checkpoint(tmp_path / "m", layers=1, hidden=80)
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    rng = np.random.default_rng(0)
    for name in tensors:
        tensors[name] = rng.standard_normal(tensors[name].shape).astype(np.float16)
    save_file(tensors, tmp_path / "m" / "model.safetensors")
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm'}: no matrix fits; quantize it instead")):
        import_checkpoint(tmp_path / "m", tmp_path / "o", keep_going=True)


def test_probe(tmp_path, damaged):
    before = sorted(tmp_path.iterdir())
    found = {survey.name: (survey, ratios) for survey, ratios in probe_checkpoint(tmp_path / "m")}
    assert sorted(tmp_path.iterdir()) == before
    assert len(found) == 14
    misfits = [name for name, (survey, _) in found.items() if not survey.fits]
    assert sorted(misfits) == [
        "model.layers.1.mlp.down_proj", UP, "model.layers.1.self_attn.q_proj"]
    survey, ratios = found[UP]
    assert [ratio for ratio, _ in ratios][:3] == [0, 0.077, 0.083]
    assert {attempt.form for attempt in survey.outcome.attempts} == {
        form for form in FORMS if not form.endswith(("via float16", "unrounded in float16"))
        and not (form.startswith(("sum", "(sum", "s*(s", "z*(s")) and form.endswith(" in bfloat16")
                 and "unrounded" not in form)}
    survey, ratios = found["model.layers.0.mlp.up_proj"]
    assert (survey.outcome.depth, survey.outcome.form, ratios) == (3, "s*q/h", [])
