"""Values that are not finite are reported at packing and by verify, and stop a generation."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.finite import FiniteCheck
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.verify import verify
from tritstream.golden.quantizers.moments import Moment, write_moments
from tritstream.host.model.load import load_model
from tritstream.scripts.evaluation.command import evaluate
from tritstream.scripts.running.generate import generate
from tritstream.scripts.weights.checkpoints import verify as verify_command
from tritstream.scripts.weights.quantize import quantize

from support.golden_helpers import message
from support.model_helpers import MODEL, PROMPT, prompt_ids

NORM, EMBEDDING = "model.norm.weight", "model.embed_tokens.weight"
BIAS = "model.layers.1.self_attn.k_proj.bias"
TOKEN = prompt_ids()[0, 2].item()

#: Tensor, index, value, layer that the error names, and message.
CASES = {
    "norm": (NORM, (0,), math.inf, "model.norm gives -inf at [0, 0, 0], since model.norm.weight "
                                   "holds inf at [0]"),
    "embedding": (EMBEDDING, (TOKEN, 5), math.nan, "model.embed_tokens gives nan at [0, 2, 5], "
                  f"since model.embed_tokens.weight holds nan at [{TOKEN}, 5]"),
    "bias": (BIAS, (3,), math.nan, "model.layers.1.self_attn.k_proj gives nan at [0, 0, 3], since "
             f"{BIAS} holds nan at [3]"),
    "head": ("lm_head.weight", (7, 0), math.inf,
             "lm_head.weight holds inf at [7, 0]"),
}


def changed(folder, name, place, value):
    """A copy of the shipped model with one other value; a head has its own tensor then."""
    path = folder / "m"
    shutil.copytree(MODEL, path)
    tensors = load_file(path / "model.safetensors")
    if name == "lm_head.weight":
        tensors[name] = tensors[EMBEDDING].clone()
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    tensors[name][place] = value
    save_file(tensors, path / "model.safetensors", {"format": "pt"})
    return path


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """A packed checkpoint with a value that is not finite, and what names it."""
    folder = tmp_path_factory.mktemp(request.param)
    name, place, value, said = CASES[request.param]
    model = changed(folder, name, place, value)
    report = pack_checkpoint(model, folder / "packed", 3)
    return folder / "packed", name, place, report, said


@pytest.fixture(scope="module")
def huge(tmp_path_factory):
    """A packed checkpoint of finite weights whose activations overflow."""
    folder = tmp_path_factory.mktemp("huge")
    pack_checkpoint(changed(folder, NORM, slice(None), 3e38), folder / "packed", 3)
    return folder / "packed"


def refused(capsys, command, *arguments, **options):
    with pytest.raises(SystemExit, match="^1$"):
        command(*arguments, **options)
    out, err = capsys.readouterr()
    assert out.strip() == ""
    # The message of generate before it opens a simulated device.
    err = err.removeprefix("building the simulated device (half a minute the first time)\n")
    assert err.count("\n") == 1 and err.startswith("error: ")
    return err


def test_packing_and_verify_name_the_tensor(case):
    packed, name, place, report, _ = case
    line, = (line for line in report.warnings if "finite" in line)
    kind = "1 NaN, 0 infinite" if "nan" in case[4] else "0 NaN, 1 infinite"
    assert line.startswith(f"{name}: 1 of ")
    assert f"values is not finite ({kind}), the first at {list(place)}; " in line
    finding, = verify(packed)
    assert (finding.tensor, finding.kind) == (name, "warning")
    assert line == f"{name}: {finding.message}"


@pytest.mark.parametrize("backend", ["reference", "golden"])
def test_generate_names_the_layer(case, backend, capsys):
    said = refused(capsys, generate, case[0], PROMPT, tokens=4, backend=backend)
    assert case[4] in said and f"error: {case[0]}: " in said


def test_device_names_the_layer(case, capsys):
    assert case[4] in refused(capsys, generate, case[0], PROMPT, tokens=4, device="sim:lanes=8")


@pytest.mark.parametrize("backend", ["reference", "golden"])
def test_eval_names_the_layer(case, backend, capsys, tmp_path):
    (tmp_path / "text").write_text((f"{PROMPT} sister. ") * 60)
    err = refused(capsys, evaluate, [case[0]], [tmp_path / "text"], backend=backend, ctx=128,
                  output=tmp_path / "e")
    tensor = case[4].split("since ")[-1].split(" holds")[0]
    assert tensor in err


def test_unpacked_models_are_checked_too(tmp_path):
    name, place, value, said = CASES["bias"]
    model = load_model(changed(tmp_path, name, place, value))
    with pytest.raises(CheckpointError, match="k_proj gives nan") as error, torch.inference_mode():
        model(prompt_ids())
    assert said in str(error.value)


@pytest.mark.parametrize("backend", ["reference", "golden"])
def test_overflow_of_activations_names_the_layer(huge, backend, capsys):
    assert "model.norm gives " in (err := refused(
        capsys, generate, huge, PROMPT, tokens=4, backend=backend))
    assert "from finite inputs: its values overflow" in err


def test_value_between_layers_is_reported_for_the_next_layer(tmp_path):
    model = load_model(MODEL)
    attention = model.model.layers[2].self_attn

    def spoil(module, inputs, results):
        return (results[0] * math.nan, *results[1:])

    attention.register_forward_hook(spoil)
    with pytest.raises(CheckpointError, match=(
            r"model\.layers\.2\.post_attention_layernorm gets nan at \[0, 0, 0\] from the layers "
            "before it, whose own results are finite")), torch.inference_mode():
        model(prompt_ids())


def test_a_broken_row_that_no_token_reads_does_no_harm(tmp_path):
    model = changed(tmp_path, EMBEDDING, (1000, 0), 1.0)
    config = json.loads((model / "config.json").read_text())
    tensors = load_file(model / "model.safetensors")
    tensors["lm_head.weight"] = tensors[EMBEDDING].clone()
    tensors[EMBEDDING][1000, 0] = math.nan
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    (model / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    with torch.inference_mode():
        assert torch.isfinite(load_model(model)(prompt_ids()).logits).all()


def test_commands_tell(case, capsys, tmp_path):
    packed, name, *_ = case
    verify_command(packed)
    out, _ = capsys.readouterr()
    assert out.startswith(f"warning: {name}: 1 of ")
    assert out.endswith(f"{packed}: {50 + ('lm_head' in name)} tensors, 1 with a warning, no "
                        "error\nit can be loaded, as Qwen2ForCausalLM\n")
    quantize(packed.parent / "m", tmp_path / "o", 1)
    assert f"warning: {name}: 1 of " in capsys.readouterr().err


@pytest.mark.parametrize("temperature", [math.nan, math.inf, -1.0, 1e-30])
def test_temperatures(case, temperature, capsys):
    assert refused(capsys, generate, case[0], PROMPT, temperature=temperature,
                   backend="reference") == (
        f"error: temperature must be 0, or finite and at least 1e-06, not {temperature}\n")


@pytest.mark.parametrize("dtype", sorted(DTYPES))
def test_counts_in_pieces(dtype):
    rng, known = np.random.default_rng(0), DTYPES[dtype]
    values = rng.integers(0, 256, 240 * known.itemsize, np.uint8)
    if dtype == "BOOL":
        values &= 1
    values = values.view(known).reshape(12, 20)
    check = FiniteCheck(dtype, values.shape)
    data = values.tobytes()
    size = 7 * known.itemsize
    assert b"".join(check.watch(data[at:at + size] for at in range(0, len(data), size))) == data
    with np.errstate(invalid="ignore"):
        floats = values.astype(np.float64)
    assert check.nans == np.isnan(floats).sum()
    assert check.infinities == np.isinf(floats).sum()
    wrong = np.argwhere(~np.isfinite(floats))
    assert (check.fault is None) == (len(wrong) == 0)
    if len(wrong):
        assert f"the first at {wrong[0].tolist()}; " in check.fault


def test_scalars_and_unknown_dtypes():
    check = FiniteCheck("F32", ())
    list(check.watch([np.float32("nan").tobytes()]))
    assert check.fault.startswith("1 of 1 values is not finite (1 NaN, 0 infinite), the first at ")
    check = FiniteCheck("F4", (2,))
    assert list(check.watch([b"\xff"])) == [b"\xff"] and check.fault is None


def test_moments_that_are_not_finite_are_not_written(tmp_path):
    moment = Moment(np.full((2, 2), np.nan, np.float32), np.ones(3, np.float32))
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'm'}: the moments of a.b are not finite; check the weights of the "
            "model")):
        write_moments(tmp_path / "m", {"a.b": moment}, {})
    assert not list(tmp_path.iterdir())
