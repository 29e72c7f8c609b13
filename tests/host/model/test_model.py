import asyncio
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from tritstream.golden.activation import quantize_activation, quantize_activation16
from tritstream.golden.errors import CheckpointError
from tritstream.golden.gemv import dequantize_rows, gemv
from tritstream.golden.matrix import dequantize
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.device import Device
from tritstream.host.layout.cost import gemv_cost
from tritstream.host.model.backends import Cost, DeviceBackend, GoldenBackend
from tritstream.host.model.linear import TritLinear
from tritstream.host.model.load import load_model, load_tokenizer, make_backend
from tritstream.host.open_device import open_device
from tritstream.host.own_loop import OwnLoop
from tritstream.hw.config import DeviceConfig

from support.golden_helpers import NO_MODEL, message, rewrite
from support.host_cases import ACTIVATIONS, GEMV
from support.model_helpers import MODEL, greedy, logits, pack_llama, prompt_ids
from support.peer import Peer

DOWN = "model.layers.1.mlp.down_proj"
Q = "model.layers.0.self_attn.q_proj"


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d3"
    pack_checkpoint(MODEL, path, 3)
    return path


@pytest.fixture
def damaged(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "damaged")


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return pack_llama(tmp_path_factory.mktemp("llama"))


@pytest.fixture
def loop():
    with OwnLoop() as loop:
        yield loop


def stock(path, packed):
    """The model as stock transformers loads it, with dequantized weights in float32."""
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).eval()
    checkpoint = PackedCheckpoint(packed)
    for name in checkpoint.matrices:
        weight = torch.from_numpy(dequantize(checkpoint.matrix(name)))
        model.get_submodule(name).weight = nn.Parameter(weight)
    return model


def test_reference_is_the_stock_model_with_dequantized_weights(packed):
    assert torch.equal(logits(load_model(packed)), logits(stock(MODEL, packed)))


def test_exported_weights_are_the_reference_ones_rounded_to_float16(packed, tmp_path):
    export(packed, tmp_path / "exported")
    rounded = stock(MODEL, packed)
    for name in PackedCheckpoint(packed).matrices:
        linear = rounded.get_submodule(name)
        linear.weight = nn.Parameter(linear.weight.half().float())
    exported = load_model(tmp_path / "exported")
    assert torch.equal(logits(exported), logits(rounded))
    difference = (logits(exported) - logits(load_model(packed))).abs().max()
    assert 0 < difference < 0.01


def test_llama_with_biases_and_a_head_of_its_own(llama):
    original, packed = llama
    ids = torch.arange(20)[None]
    model = load_model(packed)
    assert torch.equal(logits(model, ids), logits(stock(original, packed), ids))
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    assert model.model.layers[1].mlp.down_proj.bias.abs().min() > 0
    close = logits(load_model(packed, backend="golden", activation_bits=16), ids)
    torch.testing.assert_close(close, logits(model, ids), rtol=0, atol=1e-3)


def test_original_model_is_loaded_in_float32():
    model = load_model(MODEL)
    assert model.dtype == torch.float32
    assert not model.training
    assert type(model.get_submodule(Q)) is nn.Linear


def test_nothing_but_kept_tensors_is_in_the_skeleton(packed):
    model = load_model(packed, backend="golden")
    kept = PackedCheckpoint(packed).kept
    assert {name for name, _ in model.named_parameters()} == set(kept)
    assert not any(value.is_meta for value in [*model.parameters(), *model.buffers()])
    assert sum(isinstance(module, TritLinear) for module in model.modules()) == 28
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert not model.training
    assert repr(model.get_submodule(Q)) == "TritLinear(128, 128, bias=True)"


def test_every_matrix_is_told_once(packed):
    names = []
    load_model(packed, progress=names.append)
    assert names == list(PackedCheckpoint(packed).matrices)


def test_model_in_bfloat16(packed):
    model = load_model(packed, dtype=torch.bfloat16)
    assert logits(model).dtype == torch.bfloat16
    golden = load_model(packed, backend="golden", dtype=torch.bfloat16)
    assert logits(golden).dtype == torch.bfloat16
    torch.testing.assert_close(logits(golden), logits(model), rtol=0, atol=1.0)


@pytest.mark.parametrize("name", [DOWN, Q])
@pytest.mark.parametrize("bits", [8, 16])
def test_layer_is_golden_gemv_and_then_the_bias(packed, name, bits):
    matrix = PackedCheckpoint(packed).matrix(name)
    layer = load_model(packed, backend=GoldenBackend(bits)).get_submodule(name)
    x = np.random.default_rng(5).standard_normal((2, 3, matrix.columns)).astype(np.float32)
    if bits == 8:
        levels, scale = quantize_activation(x.reshape(6, -1))
        sums = gemv(matrix, levels)
    else:
        high, low, scale = quantize_activation16(x.reshape(6, -1))
        sums = 256 * gemv(matrix, high) + gemv(matrix, low)
    expected = dequantize_rows(sums, matrix.table, matrix.depth, scale)
    if layer.bias is not None:
        expected += layer.bias.detach().numpy()
    np.testing.assert_array_equal(layer(torch.from_numpy(x)).detach().numpy().reshape(6, -1),
                                  expected)


def test_sixteen_bits_are_much_closer_than_eight(packed):
    exact = logits(load_model(packed))
    errors = [(logits(load_model(packed, backend="golden", activation_bits=bits)) - exact).norm()
              for bits in (8, 16)]
    assert errors[1] < 0.02 * errors[0]


def test_bits_by_name_the_last_that_fits(packed):
    rules = {"*.mlp.*": 16, "*.up_proj": 8}
    model = load_model(packed, backend="golden", activation_bits=rules)
    for name, bits in [(DOWN, 16), ("model.layers.1.mlp.up_proj", 8), (Q, 8)]:
        alone = load_model(packed, backend="golden", activation_bits=bits)
        x = torch.linspace(-1, 2, model.get_submodule(name).in_features)
        assert torch.equal(model.get_submodule(name)(x), alone.get_submodule(name)(x))


@pytest.mark.parametrize(("bits", "config", "count"), [
    (8, DeviceConfig(lanes=8), 32), (16, DeviceConfig(lanes=2, columns=2, max_k=64), 6)])
def test_device_gives_golden_tokens(packed, loop, bits, config, count):
    golden = load_model(packed, backend="golden", activation_bits=bits)
    opened = open_device("sim", config)
    backend = DeviceBackend(opened, loop.run, bits)
    device = load_model(packed, backend=backend)
    assert torch.equal(logits(device), logits(golden))
    backend.take_cost()
    assert greedy(device, count) == greedy(golden, count)
    loop.run(opened.close)
    cost = backend.take_cost()
    assert cost.stats.retries == 0 and cost.seconds > 0
    vectors = bits // 8
    prompt = -(-vectors * prompt_ids().shape[1] // config.columns)
    passes = prompt + (count - 1) * vectors // config.columns
    assert cost.stats.words == passes * words_of_a_pass(packed, config.lanes)
    assert backend.take_cost() == Cost()


def words_of_a_pass(packed, lanes):
    shapes = [info.shape for info in PackedCheckpoint(packed).matrices.values()]
    return sum(gemv_cost(shape, 3, lanes).words for shape in shapes)


def test_golden_tokens_are_those_of_the_reference(packed):
    reference = greedy(load_model(packed), 32)
    assert greedy(load_model(packed, backend="golden", activation_bits=16), 32) == reference


def test_layers_with_one_input_share_one_load_of_it(packed, loop):
    peer = Peer(lanes=8, columns=2, max_k=384)
    model = load_model(packed, backend=DeviceBackend(Device(peer), loop.run))
    first = len(peer.log)
    logits(model, prompt_ids()[:, :1])
    log = peer.log[first:]
    # The last row block of q, o and down is folded: a frame more each.
    assert log.count(GEMV) == 4 * (7 + 3)
    assert log.count(ACTIVATIONS) == 4 * 4


def test_loop_runs_inside_a_running_loop(loop):
    async def outer():
        return loop.run(asyncio.sleep, 0, "done")

    assert asyncio.run(outer()) == "done"


@pytest.mark.parametrize("bits", [0, 12, 32, {"*": 4}])
def test_wrong_bits(bits):
    wrong = bits["*"] if isinstance(bits, dict) else bits
    with pytest.raises(ValueError, match=message(f"activation bits must be 8 or 16, not {wrong}")):
        GoldenBackend(bits)


def test_wrong_backend(packed):
    with pytest.raises(ValueError, match=message(
            "backend must be reference, golden, cpu, cuda or an object of class Backend, not "
            "'fpga'")):
        make_backend("fpga")
    with pytest.raises(ValueError, match=message(
            f"{MODEL}: not packed, so only the reference backend can run it; "
            "`tritstream quantize` packs it")):
        load_model(MODEL, backend="golden")


def test_no_checkpoint(tmp_path):
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path / 'none'}: {NO_MODEL}")):
        load_model(tmp_path / "none")


def test_damaged_bytes_are_named(damaged):
    path = damaged / "packed.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"packed\.safetensors: \S+: CRC-32 is .*; copy it"):
        load_model(damaged)


def test_missing_norm_is_named(damaged):
    def change(tensors, records):
        del tensors["model.norm.weight"], records["model.norm.weight"]

    rewrite(damaged, change)
    with pytest.raises(CheckpointError, match=message(
            f"{damaged}: model.norm.weight of the model is missing or of another shape; pack the "
            "complete checkpoint")):
        load_model(damaged)


def test_matrix_that_the_model_has_not_is_named(damaged):
    config = damaged / "config.json"
    config.write_text(config.read_text().replace('"intermediate_size": 384',
                                                 '"intermediate_size": 256'))
    with pytest.raises(CheckpointError, match=r"packed matrix \S+mlp\.down_proj \(128, 384\) is "
                                              r"no linear layer of the model .*; pack the model"):
        load_model(damaged)


def test_layer_without_matrix():
    with pytest.raises(RuntimeError, match="^this layer has no backend"):
        TritLinear(2, 3)(torch.zeros(2))


def test_tokenizer_missing_or_damaged(damaged):
    (damaged / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="its tokenizer cannot be read .*; copy it again$"):
        load_tokenizer(damaged)
    (damaged / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=message(
            f"{damaged}: has no tokenizer; copy tokenizer.json and tokenizer_config.json of the "
            "model there")):
        load_tokenizer(damaged)


def test_transformers_bars_stay_as_they_were(packed, capfd):
    load_model(packed)
    assert capfd.readouterr().err == ""
    AutoModelForCausalLM.from_pretrained(MODEL)
    assert "Loading weights" in capfd.readouterr().err


def test_original_weights_are_not_touched(llama):
    original, _ = llama
    weights = load_file(original / "model.safetensors")
    name = "model.layers.0.self_attn.k_proj"
    assert torch.equal(load_model(original).get_submodule(name).weight, weights[f"{name}.weight"])
