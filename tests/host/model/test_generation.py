import shutil

import pytest
import torch

from tritstream.golden.errors import CheckpointError
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.packed.reader import PackedCheckpoint
from tritstream.host.model.backends import Cost
from tritstream.host.model.generation import CHUNK, generate_text
from tritstream.host.model.load import load_model, load_tokenizer
from tritstream.host.model.prompts import prompt_tokens
from tritstream.host.model.sampling import Sampling
from tritstream.host.model.traffic import token_traffic
from tritstream.host.protocol.records import Stats

from support.golden_helpers import message
from support.model_helpers import CHAT_TEMPLATE, MODEL, PROMPT, greedy, pack_llama


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(MODEL)


@pytest.fixture(scope="module")
def model():
    return load_model(MODEL)


def generate(model, tokenizer, count, emit=None, take_cost=Cost, **options):
    prompt = prompt_tokens(tokenizer, PROMPT, chat=False)
    return generate_text(model, tokenizer, prompt, count, emit=emit or (lambda text: None),
                         take_cost=take_cost, **options)


def test_text_comes_in_pieces_as_tokens_do(model, tokenizer):
    pieces = []
    result = generate(model, tokenizer, 16, pieces.append)
    assert result.tokens == greedy(model, 16)
    assert result.text == "".join(pieces) == tokenizer.decode(result.tokens)
    assert sum(map(bool, pieces)) > 8
    assert not result.interrupted


def test_prefill_and_decode_are_apart(model, tokenizer):
    costs = iter([Cost(Stats(cycles=1000), 0.5), *[Cost(Stats(cycles=10), 0.25)] * 3])
    result = generate(model, tokenizer, 4, take_cost=lambda: next(costs))
    assert result.prefill.tokens == len(result.prompt) == 9
    assert result.prefill.cost == Cost(Stats(cycles=1000), 0.5)
    assert result.decode.tokens == 3
    assert result.decode.cost == Cost(Stats(cycles=30), 0.75)
    assert result.prefill.seconds > 0 and result.decode.seconds > 0


def test_sampling_follows_its_seed(model, tokenizer):
    texts = [generate(model, tokenizer, 24, sampling=Sampling(1.5, seed=seed)).text
             for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_greedy_whatever_the_checkpoint_says(model, tokenizer, monkeypatch):
    monkeypatch.setattr(model.generation_config, "do_sample", True)
    monkeypatch.setattr(model.generation_config, "top_k", 3)
    assert generate(model, tokenizer, 8).tokens == greedy(model, 8)


@pytest.mark.parametrize("count", [1, 5, 11])
def test_interrupt_keeps_the_tokens_so_far(model, tokenizer, count):
    calls = iter(range(count))

    def take_cost():
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return Cost()

    result = generate(model, tokenizer, 16, take_cost=take_cost)
    assert result.interrupted
    assert result.tokens == greedy(model, count)
    assert result.text == tokenizer.decode(result.tokens)


def test_chat_uses_the_template_of_the_checkpoint(tmp_path):
    for path in MODEL.glob("tokenizer*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "chat_template.jinja").write_text(CHAT_TEMPLATE)
    tokenizer = load_tokenizer(tmp_path)
    ids = prompt_tokens(tokenizer, "How so?", chat=True)
    assert tokenizer.decode(ids) == "[user]How so?[answer]"
    ids = prompt_tokens(tokenizer, "How so?", chat=True, system="")
    assert tokenizer.decode(ids) == "[system][user]How so?[answer]"


def test_wrong_prompts(tokenizer):
    with pytest.raises(ValueError, match=message("the prompt has no token; give some text")):
        prompt_tokens(tokenizer, "", chat=False)
    with pytest.raises(CheckpointError, match=message(
            f"{MODEL}: has no chat template; leave out --chat")):
        prompt_tokens(tokenizer, "How so?", chat=True)
    with pytest.raises(ValueError, match=message(
            "a system message needs a chat template; give --chat too")):
        prompt_tokens(tokenizer, "How so?", chat=False, system="x")


def test_a_stop_text_ends_the_text_and_the_work(model, tokenizer):
    whole = generate(model, tokenizer, 16)
    stopped = generate(model, tokenizer, 16, stops=["e c", "zzz"])
    assert stopped.text == whole.text.partition("e c")[0] != whole.text
    assert stopped.tokens == whole.tokens[:len(stopped.tokens)] and len(stopped.tokens) < 16
    assert (whole.is_cut, stopped.is_cut) == (True, False)


def test_one_likely_token_is_the_likeliest(model, tokenizer):
    for sampling in (Sampling(2.0, top_k=1, seed=5), Sampling(2.0, top_p=1e-6, seed=5)):
        assert generate(model, tokenizer, 8, sampling=sampling).tokens == greedy(model, 8)


def test_a_long_prompt_is_read_in_parts(model, tokenizer):
    ids, passes = tokenizer(PROMPT * 30).input_ids, []
    hook = model.register_forward_pre_hook(
        lambda _, __, given: passes.append(given["input_ids"].shape[1]), with_kwargs=True)
    result = generate_text(model, tokenizer, ids, 3, emit=lambda text: None, take_cost=Cost)
    hook.remove()
    assert sum(passes[:-2]) == len(ids) > 3 * CHUNK and max(passes) == CHUNK
    assert passes[-2:] == [1, 1] and result.prefill.tokens == len(ids)
    whole = torch.tensor([ids])
    assert result.tokens == model.generate(
        whole, attention_mask=torch.ones_like(whole), max_new_tokens=3,
        do_sample=False)[0, len(ids):].tolist()


def test_logits_that_are_not_numbers_are_an_error(model, tokenizer):
    def spoil(_, __, results):
        results.logits.fill_(float("nan"))

    hook = model.register_forward_hook(spoil)
    with pytest.raises(CheckpointError, match="its logits are NaN"):
        generate(model, tokenizer, 4)
    hook.remove()


@pytest.mark.parametrize("count", [0, 504])
def test_wrong_count_of_tokens(model, tokenizer, count):
    with pytest.raises(ValueError, match=message(
            f"tokens must be at least 1 and, with the 9 of the prompt, at most 512, not {count}")):
        generate(model, tokenizer, count)


def test_wrong_temperature():
    with pytest.raises(ValueError, match=message(
            "temperature must be 0, or finite and at least 1e-06, not -0.5")):
        Sampling(temperature=-0.5)


def test_traffic_counts_a_tied_head(tmp_path):
    pack_checkpoint(MODEL, tmp_path / "d3", 3)
    checkpoint = PackedCheckpoint(tmp_path / "d3")
    traffic = token_traffic(load_model(tmp_path / "d3"), checkpoint)
    tiles = sum(checkpoint.tiles(name).nbytes for name in checkpoint.matrices)
    assert traffic.packed == tiles + 28 * 27 * 4
    assert traffic.head == 1024 * 128 * 2
    assert traffic.embedding == 128 * 2
    assert traffic.other == 2 * (9 * 128 + 4 * (128 + 64 + 64))
    whole = traffic.packed + traffic.head + traffic.embedding + traffic.other
    assert traffic.packed_share == traffic.packed / whole


def test_traffic_counts_a_head_of_its_own(tmp_path):
    _, packed = pack_llama(tmp_path)
    traffic = token_traffic(load_model(packed), PackedCheckpoint(packed))
    assert (traffic.head, traffic.embedding) == (61 * 36 * 4, 36 * 4)
    assert traffic.other == 4 * (5 * 36 + 2 * (36 + 12 + 12 + 36 + 2 * 52 + 36))


@pytest.mark.parametrize("names", [["embed_tokens"], ["embed_tokens", "lm_head"]])
def test_traffic_of_a_packed_embedding_is_a_row(tmp_path, names):
    source, _ = pack_llama(tmp_path)
    pack_checkpoint(source, tmp_path / "o", 3, include=names)
    checkpoint = PackedCheckpoint(tmp_path / "o")
    traffic = token_traffic(load_model(tmp_path / "o"), checkpoint)
    sizes = {name: sum(tensor.size for tensor in checkpoint.tensors_of(name))
             for name in checkpoint.matrices}
    whole = sizes.pop("model.embed_tokens")
    assert traffic.packed == sum(sizes.values())
    assert traffic.embedding == whole // 61
    assert traffic.head == (0 if "lm_head" in names else 61 * 36 * 4)


def test_traffic_of_a_packed_embedding_that_is_the_head(tmp_path):
    pack_checkpoint(MODEL, tmp_path / "o", 3, include=["embed_tokens"])
    checkpoint = PackedCheckpoint(tmp_path / "o")
    traffic = token_traffic(load_model(tmp_path / "o"), checkpoint)
    assert traffic.packed == sum(tensor.size for name in checkpoint.matrices
                                 for tensor in checkpoint.tensors_of(name))
    assert traffic.head == 0
