"""Rules to split text before merging tokens, by the names of tokenizers in llama.cpp."""

from dataclasses import dataclass

__all__ = ["SPLITS", "Split"]

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CL100K = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}"
           r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
_TEKKEN = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
           r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
           r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")


@dataclass(frozen=True)
class Split:
    """Splitting rule of a byte-level tokenizer.

    Members
    -------
    patterns : tuple of str
        Regular expressions that split the text, applied one after the other.
    normalizer : str or None
        Unicode normalization that is applied first.
    whole : bool
        Whether a piece that is a token is not split further by the merges.
    bos : bool
        Whether texts start with the bos token, unless the file states it.
    """

    patterns:   tuple[str, ...]
    normalizer: str | None = None
    whole:      bool = False
    bos:        bool = False


_LLAMA3 = _CL100K.format(digits="{1,3}")

#: Splitting rules, by the value of ``tokenizer.ggml.pre``.
SPLITS = {
    "gpt-2": Split((_GPT2,)),
    **dict.fromkeys(("smollm", "starcoder", "refact", "minerva-7b"), Split((r"\p{N}", _GPT2))),
    **dict.fromkeys(("llama3", "llama-v3", "llama-bpe", "falcon3"),
                    Split((_LLAMA3,), whole=True, bos=True)),
    "smaug-bpe": Split((_LLAMA3,)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen"),
                    Split((_CL100K.format(digits=""),), normalizer="NFC")),
    "tekken": Split((_TEKKEN,), whole=True, bos=True),
}
