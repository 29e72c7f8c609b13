import math

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

from tritstream.golden.errors import CheckpointError
from tritstream.host.model.load import load_model, load_tokenizer
from tritstream.host.model.scoring import Tokens, predict, split, tokenize
from tritstream.host.quality import bits_per_byte, perplexity

from support.golden_helpers import message
from support.model_helpers import MODEL
from support.text_cases import make_text


@pytest.fixture(scope="module")
def model():
    return load_model(MODEL)


@pytest.fixture
def tokenizer():
    return load_tokenizer(MODEL)


def plain(ids, bos=None):
    """Tokens of a letter each, of the text ``"a" * len(ids)``."""
    return Tokens(np.array(ids), np.arange(1, len(ids) + 1), bos)


def test_chunks_are_disjoint_and_end_in_what_is_scored():
    chunks = split(plain(range(1009)), "a" * 1009, 10, 0)
    np.testing.assert_array_equal(chunks.ids, np.arange(1000).reshape(100, 10))
    np.testing.assert_array_equal(chunks.targets(2), [26, 27, 28, 29])
    np.testing.assert_array_equal(chunks.sizes, [4] * 100)


@pytest.mark.parametrize("context, scored", [(4, 1), (5, 2), (9, 4), (512, 255)])
def test_tokens_after_the_middle_are_scored(context, scored):
    chunks = split(plain(range(512 * 100)), "a" * 51200, context, 0)
    assert chunks.scored == scored
    assert chunks.targets(0)[0] == context // 2 + 1


@pytest.mark.parametrize("limit, count", [(100, 25), (103, 25), (104, 26), (10_000, 100)])
def test_limit_is_of_scored_tokens(limit, count):
    assert len(split(plain(range(1000)), "a" * 1000, 10, limit).ids) == count


def test_bos_takes_the_first_place_of_every_chunk():
    chunks = split(plain(range(1000), bos=7), "a" * 1000, 10, 0)
    np.testing.assert_array_equal(chunks.ids[:, 0], [7] * 100)
    np.testing.assert_array_equal(chunks.ids[3, 1:], range(31, 40))


@pytest.mark.parametrize("count, context, limit, line", [
    (1023, 512, 0, "the text has 1023 tokens, but two chunks of 512 need 1024; give more text or a "
                   "smaller ctx"),
    (9999, 512, 254, "0 chunks of 512 tokens score 0 tokens, too few for statistics; score at "
                     "least 100"),
    (249, 10, 0, "24 chunks of 10 tokens score 96 tokens, too few for statistics; score at least "
                 "100"),
    (9999, 3, 0, "ctx must be at least 4 tokens, not 3"),
])
def test_too_little_to_score(count, context, limit, line):
    with pytest.raises(ValueError, match=message(line)):
        split(plain(range(count)), "a" * count, context, limit)


def test_ends_of_tokens_cover_the_text(tokenizer):
    text = "Hé £5 — naïve\n \n café"
    tokens = tokenize(tokenizer, text)
    pieces = np.split(np.array(list(text)), tokens.ends)
    assert len(tokens.ids) > len(text) - 5
    # A letter of two bytes counts for its first token.
    assert ["".join(piece) for piece in pieces[:5]] == ["H", "é", "", " ", "£"]
    assert "".join("".join(piece) for piece in pieces) == text


def test_sizes_are_the_bytes_that_tokens_spell(tokenizer):
    text = make_text(400).encode("ascii", "ignore").decode()
    chunks = split(tokenize(tokenizer, text), text, 64, 0)
    spelled = [len(tokenizer.decode(chunks.targets(chunk))) for chunk in range(len(chunks.ids))]
    assert chunks.sizes.tolist() == spelled


def test_sizes_are_of_bytes_not_characters():
    tokens = Tokens(np.zeros(1000, int), np.arange(1, 1001), None)
    np.testing.assert_array_equal(split(tokens, "é" * 1000, 10, 0).sizes, [8] * 100)


def test_vocabulary_with_bos(tokenizer):
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)])
    tokenizer.bos_token = "<|endoftext|>"
    tokens = tokenize(tokenizer, "the very first")
    assert tokens.bos == tokens.ids[0] == tokens.ends[0] == 0
    assert tokens.ends[-1] == len("the very first")
    assert tokenize(load_tokenizer(MODEL), "the very first").ids.tolist() == tokens.ids[1:].tolist()


def test_same_ids_same_digest(tokenizer):
    first, again, other = (tokenize(tokenizer, text).sha256 for text in ("a b", "a b", "a c"))
    assert first == again != other


def test_tokenizer_without_offsets(tokenizer):
    class Slow:
        is_fast, name_or_path = False, "some/where"

    with pytest.raises(CheckpointError, match=message(
            "some/where: its tokenizer cannot tell which text a token stands for; add its "
            "tokenizer.json")):
        tokenize(Slow(), "text")


def test_perplexity_against_plain_torch(model, tokenizer):
    text, context = make_text(300), 64
    chunks = split(tokenize(tokenizer, text), text, context, 0)
    nll = np.concatenate([predict(model, chunks, chunk).nll(chunks.targets(chunk))
                          for chunk in range(len(chunks.ids))])

    ids = torch.tensor(tokenizer(text).input_ids)
    losses = []
    with torch.no_grad():
        for chunk in ids[:len(ids) // context * context].view(-1, context):
            logits = model(chunk[None]).logits[0].double()
            loss = cross_entropy(logits[:-1], chunk[1:], reduction="none")
            losses.append(loss[context // 2:])
    losses = torch.cat(losses).numpy()

    assert nll.size == losses.size == len(chunks.ids) * 31
    np.testing.assert_allclose(nll, losses, rtol=1e-5, atol=1e-5)
    assert perplexity(nll).value == pytest.approx(math.exp(losses.mean()), rel=1e-6)
    assert perplexity(nll).error == pytest.approx(
        math.exp(losses.mean()) * losses.std(ddof=1) / math.sqrt(losses.size), rel=1e-6)
    assert bits_per_byte(nll, 1000).value == pytest.approx(losses.sum() / math.log(2) / 1000)


def test_logits_that_are_not_numbers(tokenizer):
    text = make_text(200)
    broken = AutoModelForCausalLM.from_pretrained(MODEL)
    with torch.no_grad():
        broken.model.norm.weight[5] = math.nan
    chunks = split(tokenize(tokenizer, text), text, 64, 0)
    with pytest.raises(ValueError, match=r"tiny-qwen2: its logits are not numbers in chunk 1$"):
        predict(broken, chunks, 1)
