"""Training of the tiny Qwen2 model, and bits per byte of any model on a text."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)

from tritstream.scripts.corpus import Text

__all__ = ["Recipe", "bits_per_byte", "evaluate_directory", "fit", "make_model", "make_tokenizer",
           "token_ids"]

WINDOWS_PER_BATCH = 8


@dataclass(frozen=True)
class Recipe:
    """Settings that determine the weights, with the text and the versions of the packages."""

    steps: int = 3000
    seed: int = 1
    batch: int = 8
    context: int = 128
    learning_rate: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.1
    vocabulary: int = 1024

    def rate(self, step: int) -> float:
        """Return the learning rate relative to its peak: linear rise, then cosine to 0.01."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2


def make_tokenizer(texts: list[Text], vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE with `vocabulary` entries and Qwen2's splits, trained on `texts`."""
    lines = (text.text for text in texts)
    return Qwen2Tokenizer().train_new_from_iterator(lines, vocabulary, show_progress=False)


def make_model(tokenizer: PreTrainedTokenizerBase, seed: int) -> Qwen2ForCausalLM:
    """Return an untrained Qwen2: grouped-query attention, q, k, v biases, tied embeddings."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return Qwen2ForCausalLM(config)


def token_ids(tokenizer: PreTrainedTokenizerBase, text: str) -> Tensor:
    """Return the tokens of `text` after a start token."""
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    return torch.tensor([start, *ids])


def fit(model: nn.Module, ids: Tensor, recipe: Recipe, report: Callable[[float], None]) -> None:
    """Minimize next-token loss on random windows of `ids`; call `report(loss)` after each step."""
    generator = torch.Generator().manual_seed(recipe.seed)
    optimizer = _optimizer(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, recipe.rate)
    span = torch.arange(recipe.context + 1)
    for _ in range(recipe.steps):
        starts = torch.randint(len(ids) - recipe.context, (recipe.batch, 1), generator=generator)
        loss = _loss(model, ids[starts + span])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        report(loss.item())


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.AdamW:
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": recipe.weight_decay},
        {"params": [p for p in parameters if p.ndim == 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))


def _loss(model: nn.Module, windows: Tensor, reduction: str = "mean") -> Tensor:
    """Nats of all tokens of each window except the first."""
    logits = model(input_ids=windows[:, :-1], use_cache=False).logits
    return cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction=reduction)


@torch.inference_mode()
def bits_per_byte(model: nn.Module, ids: Tensor, size: int, context: int) -> float:
    """Return bits per byte of `ids` (with a start token), which encode `size` bytes."""
    nats = sum(_loss(model, windows, "sum").item() for windows in _windows(ids, context))
    return nats / math.log(2) / size


def _windows(ids: Tensor, context: int) -> Iterator[Tensor]:
    """Batches of windows that overlap by one token, so each token is a target once."""
    yield from ids.unfold(0, context + 1, context).split(WINDOWS_PER_BATCH)
    rest = (len(ids) - 1) % context
    if rest:
        yield ids[None, -rest - 1 :]


def evaluate_directory(directory: Path, text: Text, context: int) -> float:
    """Return the bits per byte of a stored checkpoint, computed in float32."""
    ids = token_ids(AutoTokenizer.from_pretrained(directory), text.text)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return bits_per_byte(model, ids, len(text.data), context)
