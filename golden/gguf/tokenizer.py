"""Conversion of GGUF tokenizers to Hugging Face's tokenizer files."""

from bisect import bisect_left
from typing import Any

from gguf.constants import TokenType

from tritstream.golden.gguf.pretokenizers import SPLITS
from tritstream.golden.gguf.reader import Gguf
from tritstream.golden.gguf.vocabulary import Vocabulary

__all__ = ["tokenizer_files"]

_TEMPLATE = "tokenizer.chat_template"
_SPACE = "\u2581"


def tokenizer_files(gguf: Gguf, vocabulary: Vocabulary, context: int) -> dict[str, dict]:
    """Return tokenizer.json and tokenizer_config.json by name, empty if there is no tokenizer.

    ``context`` is the longest text in tokens. Raises :class:`.CheckpointError` for an unsupported
    kind of tokenizer.
    """
    if not vocabulary.kind:
        return {}
    if vocabulary.kind not in ("gpt2", "llama"):
        raise vocabulary.wrong(f"{vocabulary.kind} is not known, only gpt2 and llama")
    parts = _byte_level(vocabulary) if vocabulary.kind == "gpt2" else _sentencepiece(vocabulary)
    tokenizer = {"version": "1.0", "truncation": None, "padding": None,
                 "added_tokens": _added(vocabulary), **parts}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": context,
        "clean_up_tokenization_spaces": False,
        **{f"{name}_token": vocabulary.text(number) for name, number in vocabulary.special.items()},
    }
    templates = _templates(gguf, vocabulary)
    if templates:
        config["chat_template"] = templates
    return {"tokenizer.json": tokenizer, "tokenizer_config.json": config}


def _templates(gguf: Gguf, vocabulary: Vocabulary) -> str | list[dict] | None:
    """Return the chat template, a list of named templates, or None."""
    named = {key.removeprefix(f"{_TEMPLATE}."): text for key, text in gguf.metadata.items()
             if key.startswith(f"{_TEMPLATE}.")}
    default = gguf.metadata.get(_TEMPLATE)
    for text in (*named.values(), default or ""):
        if not isinstance(text, str):
            raise vocabulary.wrong(f"{_TEMPLATE} is no text")
    if not named:
        return default
    named |= {"default": default} if default else {}
    return [{"name": name, "template": text} for name, text in named.items()]


def _added(vocabulary: Vocabulary) -> list[dict]:
    """Return the tokens that are recognized in the text before it is split."""
    special = {*vocabulary.of_type(TokenType.CONTROL, TokenType.UNKNOWN),
               *(vocabulary.text(number) for number in vocabulary.special.values())}
    texts = special.union(vocabulary.of_type(TokenType.USER_DEFINED))
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [{"id": number, "content": text, **plain, "special": text in special}
            for text, number in vocabulary.tokens.items() if text in texts]


def _byte_level(vocabulary: Vocabulary) -> dict:
    """Return a tokenizer that merges bytes, each written as one printable character."""
    name = vocabulary.get("pre", str, "default")
    if name not in SPLITS:
        raise vocabulary.wrong(f"its pre-tokenizer (way to split text), {name}, is not known")
    split = SPLITS[name]
    merges = [merge.split(" ") for merge in vocabulary.texts("merges")]
    for pair in merges:
        if len(pair) != 2 or not vocabulary.tokens.keys() >= {*pair, "".join(pair)}:
            raise vocabulary.wrong(f"the merge {' '.join(pair)!r} is not of its tokens")
    cuts = [{"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated",
             "invert": False} for pattern in split.patterns]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True,
             "use_regex": False}
    return {
        "normalizer": {"type": split.normalizer} if split.normalizer else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*cuts, level]},
        "post_processor": _template(vocabulary, split.bos), "decoder": level,
        "model": _model(vocabulary, merges, ignore_merges=split.whole),
    }


def _sentencepiece(vocabulary: Vocabulary) -> dict:
    """Return a tokenizer of pieces that start with their space, and of bytes for other text."""
    prefix = vocabulary.get("add_space_prefix", bool, True)
    steps: list[dict[str, Any]] = [{"type": "Prepend", "prepend": _SPACE}] if prefix else []
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": _SPACE})
    undo: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"}]
    undo += [{"type": "Strip", "content": " ", "start": 1, "stop": 0}] if prefix else []
    unknown = vocabulary.special.get("unk")
    return {
        "normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": None,
        "post_processor": _template(vocabulary, True),
        "decoder": {"type": "Sequence", "decoders": undo},
        "model": _model(vocabulary, _merges(vocabulary), fuse_unk=True, byte_fallback=True,
                        unk_token=None if unknown is None else vocabulary.text(unknown)),
    }


def _merges(vocabulary: Vocabulary) -> list[tuple[str, str]]:
    """Return all pairs of tokens that join to a token, sorted by falling score of that token.

    This is the merge order of sentencepiece, because all scores of a vocabulary are different.
    """
    scores, tokens, found = vocabulary.scores(), vocabulary.tokens, []
    # Only splits at the length of some token are tried, which are few even in a very long token.
    lengths = sorted({len(text) for text in tokens if text})
    for text in vocabulary.of_type(TokenType.NORMAL):
        number = tokens[text]
        for length in lengths[:bisect_left(lengths, len(text))]:
            left, right = tokens.get(text[:length]), tokens.get(text[length:])
            if left is not None and right is not None:
                found.append((-scores[number], left, right))
    found.sort()
    return [(vocabulary.text(left), vocabulary.text(right)) for _, left, right in found]


def _model(vocabulary: Vocabulary, merges: list, **flags: Any) -> dict:
    return {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": False, **flags, "vocab": vocabulary.tokens, "merges": merges}


def _template(vocabulary: Vocabulary, bos: bool) -> dict | None:
    """Return the tokens around a text; ``bos`` is the default for a file that states nothing."""
    asked = {"bos": vocabulary.get("add_bos_token", bool, bos),
             "eos": vocabulary.get("add_eos_token", bool, False)}
    ids = {name: vocabulary.special[name] for name, wanted in asked.items()
           if wanted and name in vocabulary.special}
    if not ids:
        return None

    def around(sequence: str, kind: int) -> list[dict]:
        pieces = {name: [{"SpecialToken": {"id": vocabulary.text(number), "type_id": kind}}]
                  for name, number in ids.items()}
        body = {"Sequence": {"id": sequence, "type_id": kind}}
        return [*pieces.get("bos", []), body, *pieces.get("eos", [])]

    tokens = {vocabulary.text(number): {"id": vocabulary.text(number), "ids": [number],
                                        "tokens": [vocabulary.text(number)]}
              for number in ids.values()}
    return {"type": "TemplateProcessing", "single": around("A", 0),
            "pair": around("A", 0) + around("B", 1), "special_tokens": tokens}
