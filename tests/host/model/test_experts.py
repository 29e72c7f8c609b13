"""Packed experts: the layers that stand for them, and all that runs a model with them."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers import AutoModelForCausalLM

from tritstream import TritstreamConfig
from tritstream.golden.checkpoints.directory import DirectorySource
from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.golden.packed.verify import verify
from tritstream.host.model.calibration import collect_moments
from tritstream.host.model.experts import Expert, Stack
from tritstream.host.model.linear import TritLinear
from tritstream.host.model.load import load_model
from tritstream.host.model.merging import find_merges
from tritstream.host.model.packed import load_packed
from tritstream.host.model.skeleton import TensorNames, make_skeleton, read_config
from tritstream.host.model.traffic import token_traffic
from tritstream.scripts.weights.linear_layers import linear_layers

from support.architecture_cases import save_model
from support.model_helpers import architecture_at, logits

IDS = torch.arange(3, 11)[None]


def layer(rows, columns):
    return nn.Linear(columns, rows, bias=False)


@pytest.fixture
def stack():
    """Three experts of 8 inputs, whose 6 outputs come from two layers."""
    torch.manual_seed(0)

    def make(axes):
        made = Stack((3, 6, 8) if axes == "NK" else (3, 8, 6), torch.float32)
        made.experts = tuple(Expert([layer(4, 8), layer(2, 8)], axes, 6) for _ in range(3))
        return made

    return make


def weight(expert):
    return torch.cat([one.weight for one in expert])


@torch.inference_mode()
def test_products_with_an_expert(stack):
    x, bias = torch.randn(2, 5, 8), torch.randn(6)
    expert = stack("NK")[torch.tensor(2)]
    due = x @ weight(expert).T
    torch.testing.assert_close(functional.linear(x, expert), due)
    torch.testing.assert_close(functional.linear(x, expert, bias), due + bias)
    torch.testing.assert_close(functional.linear(x, expert, bias=None), due)
    expert = stack("KN")[1]
    for product in (x @ expert, torch.matmul(x, expert), x.matmul(expert.float())):
        torch.testing.assert_close(product, x @ weight(expert).T)


@torch.inference_mode()
def test_products_with_all_experts_leave_out_rows_of_zeros(stack):
    experts = stack("KN")
    x = torch.randn(3, 4, 8)
    x[0], x[1, 2:] = 0, 0
    rows = []
    for expert in experts.experts:
        expert[0].register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    due = torch.stack([part @ weight(experts[index]).T for index, part in enumerate(x)])
    torch.testing.assert_close(torch.bmm(x, experts), due)
    assert rows == [2, 4]
    assert experts.shape == (3, 8, 6)


def test_no_rows_are_not_multiplied(stack):
    expert = stack("NK")[0]
    expert[0].register_forward_hook(lambda *_: pytest.fail("it ran"))
    assert functional.linear(torch.empty(0, 8), expert).shape == (0, 6)


@pytest.mark.parametrize(("axes", "use", "name"), [
    ("KN", lambda x, experts: functional.linear(x, experts[0]), "linear"),
    ("NK", lambda x, experts: x @ experts[0], "__matmul__|matmul"),
    ("NK", lambda x, experts: torch.mul(experts[0], 2), "mul"),
    ("NK", lambda x, experts: torch.stack([experts[0]]), "stack"),
    ("KN", lambda x, experts: torch.matmul(x, experts), "matmul"),
    ("NK", lambda x, experts: torch.chunk(experts, 2), "chunk"),
])
def test_other_operations_are_refused(stack, axes, use, name):
    with pytest.raises(RuntimeError, match=(
            rf"^packed experts multiply by linear, @ and bmm only, not by ({name}); load the model "
            "with experts_implementation=\"eager\"$")):
        use(torch.randn(2, 8), stack(axes))


@pytest.fixture(scope="module", params=["qwen2_moe", "gpt_oss"])
def packed(request, tmp_path_factory):
    """A model of experts, and it packed."""
    path = tmp_path_factory.mktemp(request.param)
    source = save_model(path / "m", request.param)
    pack_checkpoint(source, path / "o", 3, architecture=architecture_at(source))
    return source, path / "o"


def test_a_device_computes_what_golden_does(packed):
    _, out = packed
    golden, device = load_model(out, backend="golden"), load_packed(out, "sim:lanes=16")
    assert torch.equal(logits(device, IDS), logits(golden, IDS))
    layers = [one for one in device.modules() if isinstance(one, TritLinear)]
    assert len(layers) == len(PackedCheckpoint(out).matrices)


def test_only_experts_with_tokens_run(packed):
    model = load_model(packed[1])
    ran = {}
    for name, module in model.named_modules():
        if isinstance(module, TritLinear) and ".experts." in name:
            module.register_forward_hook(
                lambda _, inputs, __, name=name: ran.__setitem__(name, len(inputs[0])))
    logits(model, IDS[:, :1])
    # Two of four experts, in each of two layers; gate and up are one matrix or two.
    assert len(ran) == (2 * 2 * 3 if "qwen" in str(packed[1]) else 2 * 2 * 2)
    assert set(ran.values()) == {1}


def test_saving_and_quantizing_while_loading(packed, tmp_path):
    source, out = packed
    model = AutoModelForCausalLM.from_pretrained(out)
    model.save_pretrained(tmp_path / "saved", max_shard_size="20KB")
    saved = PackedCheckpoint(tmp_path / "saved")
    assert len(saved.shards) > 1
    assert verify(tmp_path / "saved", source, architecture=architecture_at(source)) == []
    assert torch.equal(logits(AutoModelForCausalLM.from_pretrained(tmp_path / "saved"), IDS),
                       logits(model, IDS))
    made = AutoModelForCausalLM.from_pretrained(
        source, quantization_config=TritstreamConfig(depth=3))
    assert torch.equal(logits(made, IDS), logits(model, IDS))


@pytest.mark.filterwarnings("ignore:You passed `quantization_config`")
def test_plain_weights_of_experts_come_from_an_export_only(packed):
    with pytest.raises(CheckpointError, match=(
            r"the experts in model.layers.0.mlp.experts.\w+ cannot be loaded with "
            "dequantize=True; export the checkpoint$")):
        AutoModelForCausalLM.from_pretrained(
            packed[1], quantization_config=TritstreamConfig(dequantize=True))


def test_traffic_counts_the_experts_of_a_token(packed):
    model, checkpoint = load_model(packed[1]), PackedCheckpoint(packed[1])
    sizes = {name: sum(tensor.size for tensor in checkpoint.tensors_of(name))
             for name in checkpoint.matrices}
    experts = sum(size for name, size in sizes.items() if ".experts." in name)
    assert token_traffic(model, checkpoint).packed == sum(sizes.values()) - experts // 2


def test_calibration_measures_each_expert(packed, tmp_path):
    source, _ = packed
    model = load_model(source)
    before = logits(model, IDS)
    layers = linear_layers(DirectorySource(source), model)
    torch.testing.assert_close(logits(model, IDS), before)
    moments = collect_moments(model, layers, [IDS[0], IDS[0] + 20])
    names = [name for name in moments if ".experts." in name]
    assert len(names) == len([name for name in PackedCheckpoint(packed[1]).matrices
                              if ".experts." in name])
    assert sum(moments[name].inputs.any() for name in names) >= len(names) // 2


def test_a_converter_that_permutes_columns_is_not_followed(tmp_path):
    source = save_model(tmp_path / "m", "mixtral")
    shapes = {name: tensor.shape for name, tensor in DirectorySource(source).tensors.items()}
    model = make_skeleton(source, read_config(source, DirectorySource(source).config))
    assert len(find_merges(model, TensorNames(model), shapes)) == 4

    class Flip:
        def convert(self, input_dict, **_):
            return {name: tensor.flip(-1) for name, tensor in input_dict.items()}

    names = TensorNames(model)
    for conversion in names.conversions:
        if hasattr(conversion, "operations"):
            conversion.operations.append(Flip())
    assert find_merges(model, names, shapes) == []
