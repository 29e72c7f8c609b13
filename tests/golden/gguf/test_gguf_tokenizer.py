import json
import math
import random
import time
from itertools import pairwise

import pytest
from gguf import TokenType
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tritstream.golden.checkpoints.source import CheckpointError
from tritstream.golden.gguf.source import GgufSource

from support.gguf_helpers import SIZES, write_random
from support.golden_helpers import message

TEXTS = [
    "The quick brown fox's don't; can't  it'LL", " leading  and\n\n\ttabs \r\n trailing  ",
    "In 2024, 3.14159 is pi: 1000000+42=x", "naïve café — 東京 🙂 e\u0301", "Ⅷ ½ ٣٤ x²", "",
    "<end>def f(x):\n    return x**2 # <pad><end>", "ÀÉ Élan vitalÉlan ABCdef",
]


@pytest.fixture
def file(tmp_path):
    return tmp_path / "model.gguf"


def opened(file, fields, directory):
    """The tokenizer that is written for a model with these fields, and its configuration."""
    size = len(fields["tokenizer.ggml.tokens"])

    def change(found, tensors):
        found["llama.vocab_size"] = size
        values, kind = tensors["token_embd.weight"]
        tensors["token_embd.weight"] = values.repeat(-(-size // len(values)), axis=0)[:size], kind

    write_random(file, "llama", tokenizer=fields, change=change)
    source = GgufSource(file)
    directory.mkdir()
    source.write_companions(directory)
    return Tokenizer.from_file(str(directory / "tokenizer.json")), source


def trained(pre_tokenizer):
    """A byte-level tokenizer trained on the texts, as the library makes it, and its fields."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420, special_tokens=["<end>", "<pad>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(TEXTS * 3, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return tokenizer, {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": sorted(model["vocab"], key=model["vocab"].get),
        "tokenizer.ggml.token_type": [int(TokenType.CONTROL)] * 2 + [int(TokenType.NORMAL)] * (
            len(model["vocab"]) - 2),
        "tokenizer.ggml.merges": [" ".join(pair) for pair in model["merges"]],
        "tokenizer.ggml.eos_token_id": 0, "tokenizer.ggml.padding_token_id": 1,
    }


def byte_level(use_regex=True):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


@pytest.mark.parametrize(("name", "steps"), [
    ("gpt-2", [byte_level()]),
    ("smollm", [pre_tokenizers.Digits(individual_digits=True), byte_level()]),
])
def test_byte_level_tokenizers_of_the_library(file, tmp_path, name, steps):
    theirs, fields = trained(pre_tokenizers.Sequence(steps))
    mine, _ = opened(file, {**fields, "tokenizer.ggml.pre": name}, tmp_path / "t")
    for text in TEXTS:
        ids = mine.encode(text).ids
        assert ids == theirs.encode(text).ids
        assert mine.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(("name", "text", "pieces"), [
    ("qwen2", "it'LL 2024 e\u0301t\n\n x!!\n", ["it", "'LL", " ", "2", "0", "2", "4", " ét",
                                               "\n\n", " x", "!!\n"]),
    ("llama-bpe", "it'LL 20245 x!!\n", ["it", "'LL", " ", "202", "45", " x", "!!\n"]),
    ("tekken", "camelCase ABCdef 12!/\n", ["camel", "Case", " ABCdef", " ", "1", "2", "!/\n"]),
    ("gpt-2", "don't 2024  x\n", ["don", "'t", " 2024", " ", " x", "\n"]),
    ("smollm", "don't 20²", ["don", "'t", " ", "2", "0", "²"]),
])
def test_how_text_is_split(file, tmp_path, name, text, pieces):
    _, fields = trained(byte_level())
    mine, _ = opened(file, {**fields, "tokenizer.ggml.pre": name}, tmp_path / "t")
    if mine.normalizer:
        text = mine.normalizer.normalize_str(text)
    places = [place for _, place in mine.pre_tokenizer.pre_tokenize_str(text)]
    assert [text[start:end] for start, end in places] == pieces


def test_whole_tokens_go_before_merges(file, tmp_path):
    _, fields = trained(byte_level())
    fields["tokenizer.ggml.tokens"] = fields["tokenizer.ggml.tokens"] + ["zqzq"]
    fields["tokenizer.ggml.token_type"] = fields["tokenizer.ggml.token_type"] + [1]
    lengths = {}
    for name in ("llama-bpe", "smaug-bpe"):
        mine, _ = opened(file, {**fields, "tokenizer.ggml.pre": name}, tmp_path / name)
        lengths[name] = len(mine.encode("zqzq", add_special_tokens=False).ids)
    assert lengths == {"llama-bpe": 1, "smaug-bpe": 4}


def test_text_starts_and_ends_with_the_tokens_of_the_file(file, tmp_path):
    _, fields = trained(byte_level())
    fields |= {"tokenizer.ggml.pre": "llama-bpe", "tokenizer.ggml.bos_token_id": 1}
    body = opened(file, fields, tmp_path / "a")[0].encode("x", add_special_tokens=False).ids
    for number, (flags, expected) in enumerate((
            ({}, [1, *body]), ({"bos": False}, body), ({"eos": True}, [1, *body, 0]),
            ({"bos": False, "eos": True}, [*body, 0]))):
        asked = {f"tokenizer.ggml.add_{name}_token": flag for name, flag in flags.items()}
        mine, _ = opened(file, fields | asked, tmp_path / f"b{number}")
        assert mine.encode("x").ids == expected
        assert mine.encode("x", "x").ids == expected + expected


def sentencepiece():
    """Fields of a vocabulary of pieces, with bytes for what has no piece."""
    pieces = {"▁": -2.0, "a": -3.0, "b": -3.5, "c": -4.0, "ab": -1.0, "bc": -0.5, "▁a": -1.5,
              "▁ab": -2.5, "abc": -0.7, "▁▁": -2.2, "cab": -1.1, "ca": -0.9, "▁abcab": -3.3,
              "cc": -0.95, "aa": -0.8, "bab": -5.0, "é": -6.0}
    byte = [f"<0x{value:02X}>" for value in range(256)]
    tokens = ["<unk>", "<s>", "</s>", *byte, *pieces, "<user>"]
    types = [TokenType.UNKNOWN, *[TokenType.CONTROL] * 2, *[TokenType.BYTE] * 256,
             *[TokenType.NORMAL] * len(pieces), TokenType.USER_DEFINED]
    scores = [0.0] * 259 + list(pieces.values()) + [0.0]
    return {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [int(kind) for kind in types],
        "tokenizer.ggml.scores": scores, "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.unknown_token_id": 0,
    }


def merged(text, fields, prefix):
    """Ids by llama.cpp's rule: of all pairs that are a token, join the best, the leftmost first."""
    tokens, scores = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.scores"]
    symbols = list(("▁" if prefix and text else "") + text.replace(" ", "▁"))
    while True:
        pairs = [(-scores[tokens.index(left + right)], place)
                 for place, (left, right) in enumerate(pairwise(symbols))
                 if left + right in tokens]
        if not pairs:
            break
        place = min(pairs)[1]
        symbols[place:place + 2] = ["".join(symbols[place:place + 2])]
    return [number for symbol in symbols for number in (
        [tokens.index(symbol)] if symbol in tokens else
        [3 + value for value in symbol.encode()])]


@pytest.mark.parametrize("prefix", [True, False])
def test_sentencepiece_joins_the_best_pair_first(file, tmp_path, prefix):
    fields = sentencepiece()
    mine, _ = opened(file, {**fields, "tokenizer.ggml.add_space_prefix": prefix}, tmp_path / "t")
    rng = random.Random(0)
    texts = ["".join(rng.choices("aabbcc é€", k=rng.randrange(1, 14))) for _ in range(300)]
    for text in texts:
        ids = mine.encode(text, add_special_tokens=False).ids
        assert ids == merged(text, fields, prefix), text
        assert mine.decode(ids) == text
    assert mine.encode("a<user>").ids[0] == 1
    assert len(fields["tokenizer.ggml.tokens"]) - 1 in mine.encode("a<user>b").ids


def test_special_tokens_and_what_ends_a_text(file, tmp_path):
    fields = sentencepiece() | {"tokenizer.ggml.eot_token_id": 3, "tokenizer.ggml.eom_token_id": 2,
                                "tokenizer.chat_template": "plain",
                                "tokenizer.chat_template.tool_use": "tools"}
    _, source = opened(file, fields, tmp_path / "t")
    expected = {"bos_token_id": 1, "eos_token_id": [2, 3]}
    assert source.config.items() >= expected.items()
    read = {path.name: json.loads(path.read_text())
            for path in (tmp_path / "t").iterdir()}
    assert read["generation_config.json"] == expected
    assert read["tokenizer_config.json"] == {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": SIZES["context"],
        "clean_up_tokenization_spaces": False, "bos_token": "<s>", "eos_token": "</s>",
        "unk_token": "<unk>", "chat_template": [{"name": "tool_use", "template": "tools"},
                                                {"name": "default", "template": "plain"}]}
    added = {token["content"]: token["special"] for token in read["tokenizer.json"]["added_tokens"]}
    assert added == {"<unk>": True, "<s>": True, "</s>": True, "<user>": False}


def test_unused_tokens_at_the_end_only_pad_the_embedding(file, tmp_path):
    fields = sentencepiece()
    tokens, types = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.token_type"]
    tokens += ["[PAD0]", "[PAD1]"]
    types += [int(TokenType.UNUSED)] * 2
    fields["tokenizer.ggml.scores"] += [0.0, 0.0]
    mine, source = opened(file, fields, tmp_path / "t")
    assert mine.get_vocab_size() == len(tokens) - 2 == source.config["vocab_size"] - 2


def test_model_without_a_tokenizer(file, tmp_path):
    write_random(file, "llama")
    (tmp_path / "t").mkdir()
    GgufSource(file).write_companions(tmp_path / "t")
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["generation_config.json"]


GPT2 = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": ["a", "b", "ab"], "tokenizer.ggml.merges": ["a b"]}


ADVICE = ("leave it out with --no-tokenizer, and copy tokenizer.json of the original "
          "model")


@pytest.mark.parametrize(("change", "fault"), [
    ({"model": "bert"}, "bert is not known, only gpt2 and llama"),
    ({"model": 3}, "tokenizer.ggml.model is no str"),
    ({"pre": "gpt-5"}, "its pre-tokenizer (way to split text), gpt-5, is not known"),
    ({"tokens": ["a", "a", "b"]}, "two tokens are the same"),
    ({"tokens": ["a"] * 41}, "41 tokens, 41 types, 40 rows of the embedding do not go together"),
    ({"token_type": [1]}, "3 tokens, 1 types, 40 rows of the embedding do not go together"),
    ({"tokens": [1, 2, 3]}, "tokenizer.ggml.tokens is no list of text"),
    ({"merges": ["a c"]}, "the merge 'a c' is not of its tokens"),
    ({"merges": ["b a"]}, "the merge 'b a' is not of its tokens"),
    ({"merges": ["ab"]}, "the merge 'ab' is not of its tokens"),
    ({"merges": None}, "tokenizer.ggml.merges is no list"),
    ({"bos_token_id": 3}, "tokenizer.ggml.bos_token_id is 3, which is no token"),
    ({"add_bos_token": 1}, "tokenizer.ggml.add_bos_token is no bool"),
    ({"model": "llama"}, "tokenizer.ggml.scores is no list"),
    ({"model": "llama", "scores": [0.5]}, "1 scores of 3 tokens"),
    ({"model": "llama", "scores": ["x", "y", "z"]}, "tokenizer.ggml.scores is no list of numbers"),
    ({"model": "llama", "scores": [0.5, math.nan, 0.5]},
     "tokenizer.ggml.scores is no list of numbers"),
])
def test_tokenizers_that_do_not_do(file, change, fault):
    fields = GPT2 | {f"tokenizer.ggml.{key}": value for key, value in change.items()}
    fields = {key: value for key, value in fields.items() if value is not None}
    write_random(file, "llama", tokenizer=fields)
    with pytest.raises(CheckpointError, match=message(
            f"{file}: its tokenizer cannot be converted: {fault}; {ADVICE}")):
        GgufSource(file)
    # The weights can be had all the same.
    assert GgufSource(file, tokenizer=False).tensors.keys() > {"model.norm.weight"}


def test_a_chat_template_is_text(file):
    write_random(file, "llama", tokenizer=GPT2 | {"tokenizer.chat_template": [1, 2]})
    with pytest.raises(CheckpointError, match=message(
            f"{file}: its tokenizer cannot be converted: tokenizer.chat_template is no text; "
            f"{ADVICE}")):
        GgufSource(file)


def test_ids_without_a_tokenizer(file, tmp_path):
    write_random(file, "llama", tokenizer=GPT2 | {
        "tokenizer.ggml.bos_token_id": 7, "tokenizer.ggml.eos_token_id": 99})
    source = GgufSource(file, tokenizer=False)
    (tmp_path / "t").mkdir()
    source.write_companions(tmp_path / "t")
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["generation_config.json"]
    # 99 is no row of the embedding.
    assert source.config["bos_token_id"] == 7 and "eos_token_id" not in source.config


def test_a_token_as_long_as_a_book(file):
    tokens = ["a", "b", "ab", "ab" * 200_000]
    write_random(file, "llama", tokenizer={
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": [0.0] * 4})
    began = time.process_time()
    assert GgufSource(file)._tokenizer["tokenizer.json"]["model"]["merges"] == [("a", "b")]
    assert time.process_time() - began < 5
