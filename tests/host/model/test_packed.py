import gc
import json
import shutil
import threading

import pytest
import torch

from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.device import Device
from tritstream.host.model.load import load_model
from tritstream.host.model.packed import load_packed

from support.golden_helpers import message
from support.host_cases import run_alone
from support.model_helpers import MODEL, greedy, logits, pack_llama
from support.peer import Peer
from support.round_trips import RoundTrips


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    path = tmp_path_factory.mktemp("packed") / "d3"
    pack_checkpoint(MODEL, path, 3)
    return path


@pytest.mark.parametrize("device", ["sim:lanes=16", "sim:lanes=16,sim:lanes=8"])
def test_model_on_devices_by_name(packed, device):
    golden = load_model(packed, backend="golden")
    names, threads = [], threading.active_count()
    model = load_packed(packed, device, progress=names.append)
    assert type(model) is type(golden)
    assert torch.equal(logits(model), logits(golden))
    assert greedy(model, 4) == greedy(golden, 4)
    assert len(names) == 28
    assert threading.active_count() > threads
    del model
    gc.collect()
    assert threading.active_count() == threads


@pytest.mark.parametrize("columns, bits", [(1, 8), (2, {"*": 8, "*.k_proj": 16})])
def test_four_round_trips_per_layer(tmp_path, columns, bits):
    """For q, k and v; o; gate and up; down. The first pass shows which have the same input.

    A matrix with other bits than its siblings has a load and a round trip of its own.
    """
    class Counted(RoundTrips, Peer):
        pass

    _, path = pack_llama(tmp_path)
    golden = load_model(path, backend="golden", activation_bits=bits)
    peer = Counted(columns=columns)
    model = load_packed(path, Device(peer), activation_bits=bits)
    for ids in (torch.arange(9)[None], torch.tensor([[7]]), torch.arange(5, 9)[None]):
        before = peer.round_trips
        assert torch.equal(logits(model, ids), logits(golden, ids))
        found = (peer.round_trips - before) / 2
    assert found == (4 if bits == 8 else 5)


def test_sixteen_bits(packed):
    golden = load_model(packed, backend="golden", activation_bits=16)
    model = load_packed(packed, "sim:lanes=16", activation_bits=16)
    assert torch.equal(logits(model), logits(golden))


def test_head_and_embedding_of_their_own(tmp_path):
    # The head is first in the file, and both have their own matrix.
    source, _ = pack_llama(tmp_path)
    pack_checkpoint(source, tmp_path / "all", 4, include=["lm_head", "embed_tokens"])
    assert next(iter(PackedCheckpoint(tmp_path / "all").matrices)) == "lm_head"
    export(tmp_path / "all", tmp_path / "exported")
    ids = torch.arange(6)[None]
    torch.testing.assert_close(logits(load_model(tmp_path / "all"), ids),
                               logits(load_model(tmp_path / "exported"), ids), rtol=0, atol=1e-4)


def test_an_open_device_stays_open(tmp_path):
    _, packed = pack_llama(tmp_path)
    device = Device(Peer(lanes=2))
    model = load_packed(packed, device)
    ids = torch.arange(3)[None]
    assert torch.equal(logits(model, ids), logits(load_model(packed, backend="golden"), ids))
    del model
    gc.collect()
    assert run_alone(device.identify()).lanes == 2


def test_a_device_by_name_is_closed_with_its_model(tmp_path, monkeypatch):
    _, packed = pack_llama(tmp_path)
    peer, closed = Peer(lanes=2), []
    monkeypatch.setattr(peer, "close", lambda: closed.append(peer), raising=False)
    monkeypatch.setattr("tritstream.host.model.packed.open_device",
                        lambda name, config: Device(peer))
    model = load_packed(packed, "board")
    assert not closed
    del model
    gc.collect()
    assert closed == [peer]


def test_a_model_that_cannot_be_loaded_leaves_no_output(tmp_path):
    threads = threading.active_count()
    with pytest.raises(CheckpointError, match=message(
            f"{tmp_path}: is empty; give the directory of a checkpoint")):
        load_packed(tmp_path)
    with pytest.raises(ValueError, match="^no device 'card'; there are sim, "):
        load_packed(MODEL, "card")
    assert threading.active_count() == threads


@pytest.mark.parametrize("change", [
    {"num_hidden_layers": 3, "layer_types": ["full_attention"]}, {"hidden_act": 3},
    {"rope_parameters": {"rope_type": "none of them"}}, {"model_type": "none of them"},
    {"model_type": ["qwen2"]},
])
def test_a_configuration_that_builds_nothing(packed, tmp_path, change):
    copy = shutil.copytree(packed, tmp_path / "copy")
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError) as error:
        load_model(copy)
    assert str(error.value).startswith(f"{copy}: transformers cannot build the model (")
    assert str(error.value).endswith("); check its config.json")
