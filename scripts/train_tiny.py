"""Train, capture and measure the tiny Qwen2 model in `models/tiny-qwen2`.

    python -m scripts.train_tiny train --corpus r-cran-janeaustenr_1.0.0-1_all.deb -o DIRECTORY
    python -m scripts.train_tiny measure DIRECTORY --corpus ...   # packed, at each depth
    python -m scripts.train_tiny evaluate DIRECTORY --corpus ...  # any causal model of transformers
    python -m scripts.train_tiny capture DIRECTORY --prompt "..."

It needs the extras `torch` and `corpus`; using the model it leaves behind needs neither. Quality
is stated in bits per byte of held-out text, which does not depend on a tokenizer: all nats of the
text / ln 2 / its UTF-8 bytes. Every token is scored, in disjoint windows of `--context` tokens.
"""

import copy
import hashlib
import json
import math
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Annotated, Any

import torch
import transformers
import typer
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
)

from golden.export import export
from golden.packer import pack_checkpoint
from scripts.corpus import Text, hold_out, read_corpus

__all__ = ["Recipe", "bits_per_byte", "capture", "fit", "make_model", "make_tokenizer"]

VALIDATION = "persuasion"
CARD = Path(__file__).parents[1] / "models" / "card.md"
PROMPT = "She had always wished to be a good sister, and now she was."
DEPTHS = (1, 2, 3, 4)
WINDOWS_PER_BATCH = 8
STEPS_PER_LINE = 100

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights, beside the text and the versions of torch and tokenizers."""

    steps: int = 3000
    seed: int = 1
    batch: int = 8
    context: int = 128
    learning_rate: float = 3e-3
    warmup: int = 100
    weight_decay: float = 0.1
    vocabulary: int = 1024

    def rate(self, step: int) -> float:
        """Learning rate relative to its peak: a linear rise, then a cosine to a hundredth."""
        if step < self.warmup:
            return (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * done)) / 2


def make_tokenizer(texts: list[Text], vocabulary: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of `vocabulary` entries, split as Qwen2 does and learned from `texts`."""
    lines = (text.text for text in texts)
    return Qwen2Tokenizer().train_new_from_iterator(lines, vocabulary, show_progress=False)


def make_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> Qwen2ForCausalLM:
    """Untrained Qwen2: grouped-query attention, biases on q, k and v, head tied to embedding."""
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


def token_ids(tokenizer: PreTrainedTokenizerFast, text: str) -> Tensor:
    """Tokens of `text`, after one that stands for its beginning."""
    start = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    ids = tokenizer(text, add_special_tokens=False, verbose=False).input_ids
    return torch.tensor([start, *ids])


def fit(model: nn.Module, ids: Tensor, recipe: Recipe, report: Callable[[float], None]) -> None:
    """Minimize next-token loss on random windows of `ids`; `report` gets the loss of each step."""
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
    """Nats of all tokens of each window but the first."""
    logits = model(input_ids=windows[:, :-1], use_cache=False).logits
    return cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten(), reduction=reduction)


@torch.inference_mode()
def bits_per_byte(model: nn.Module, ids: Tensor, size: int, context: int) -> float:
    """Bits for each of the `size` bytes that `ids` (with its start token) stand for."""
    nats = sum(_loss(model, windows, "sum").item() for windows in _windows(ids, context))
    return nats / math.log(2) / size


def _windows(ids: Tensor, context: int) -> Iterator[Tensor]:
    """Batches of windows that overlap by one token, so that each token is a target once."""
    yield from ids.unfold(0, context + 1, context).split(WINDOWS_PER_BATCH)
    rest = (len(ids) - 1) % context
    if rest:
        yield ids[None, -rest - 1 :]


def evaluate_directory(directory: Path, text: Text, context: int) -> float:
    """Bits per byte of the checkpoint as it lies on disk, computed in float32."""
    ids = token_ids(AutoTokenizer.from_pretrained(directory), text.text)
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    return bits_per_byte(model, ids, len(text.data), context)


def capture(directory: Path, prompt: str) -> None:
    """Write `activations.safetensors`: what each linear layer is given for `prompt`.

    One float32 array (tokens, K) a module, by its name; the metadata hold the prompt, its token
    ids and the digest of the weights. The head is left out: it is the embedding and not packed.
    """
    ids = AutoTokenizer.from_pretrained(directory)(prompt, add_special_tokens=False).input_ids
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    metadata = {
        "prompt": prompt,
        "token_ids": json.dumps(ids),
        "model_sha256": file_sha256(directory / "model.safetensors"),
    }
    path = directory / "activations.safetensors"
    save_file(_linear_inputs(model, torch.tensor([ids])), path, metadata)


@torch.inference_mode()
def _linear_inputs(model: nn.Module, ids: Tensor) -> dict[str, Tensor]:
    inputs = {}

    def keep(name: str) -> Callable:
        def hook(module: nn.Module, args: tuple[Tensor]) -> None:
            inputs[name] = args[0][0].clone()

        return hook

    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not head:
            module.register_forward_pre_hook(keep(name))
    model(input_ids=ids, use_cache=False)
    return inputs


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory to fill, which takes its place at `path` only when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        directory = Path(scratch) / path.name
        directory.mkdir()
        yield directory
        directory.rename(path)


@contextmanager
def progress(steps: int) -> Iterator[Callable[[float], None]]:
    """A bar on a terminal, else a line every `STEPS_PER_LINE` steps."""
    losses: list[float] = []
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=steps)

        def report(loss: float) -> None:
            losses.append(loss)
            recent = sum(losses[-STEPS_PER_LINE:]) / len(losses[-STEPS_PER_LINE:])
            bar.update(task, advance=1, description=f"training, {recent:.3f} nats a token")
            if not console.is_terminal and len(losses) % STEPS_PER_LINE == 0:
                print(f"step {len(losses)} of {steps}: {recent:.3f} nats a token", flush=True)

        yield report


def write_figures(directory: Path, figures: dict[str, Any]) -> None:
    """`training.json`, and the model card that states the same."""
    (directory / "training.json").write_text(json.dumps(figures, indent=2) + "\n")
    template = Template(CARD.read_text(encoding="utf-8"))
    card = template.substitute(
        command=figures["command"],
        parameters=f"{figures['parameters']:,}",
        size=f"{(directory / 'model.safetensors').stat().st_size:,}",
        versions=", ".join(f"{name} {number}" for name, number in figures["versions"].items()),
        recipe=", ".join(f"{name} {value}" for name, value in figures["recipe"].items()),
        minutes=f"{figures['seconds'] / 60:.0f}",
        texts=_text_rows(figures),
        losses=_loss_rows(figures["bits_per_byte"]),
        prompt=figures["prompt"],
        **figures["validation"],
    )
    (directory / "README.md").write_text(card, encoding="utf-8")


def _text_rows(figures: dict[str, Any]) -> str:
    held_out = figures["validation"]["name"]
    return "\n".join(
        f"| {text['name']} | {'validation' if text['name'] == held_out else 'training'} "
        f"| {text['bytes']:,} | `{text['sha256']}` |"
        for text in figures["corpus"]
    )


def _loss_rows(losses: dict[str, Any]) -> str:
    rows = [("untrained, BF16", losses["untrained"]), ("trained, BF16", losses["trained"])]
    rows += [(f"trained, packed, d = {depth}", loss) for depth, loss in losses["packed"].items()]
    return "\n".join(f"| {name} | {loss:.3f} |" for name, loss in rows)


def read_texts(corpus: Path, validation: str) -> tuple[list[Text], Text]:
    """Training texts and the validation text, or a usage error."""
    try:
        return hold_out(read_corpus(corpus), validation)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Corpus = Annotated[Path, typer.Option(exists=True, help="A .deb, or a directory: see corpus.py.")]
Model = Annotated[Path, typer.Argument(exists=True, file_okay=False)]
Validation = Annotated[str, typer.Option(help="Document that is held out.")]
Context = Annotated[int, typer.Option(min=1, help="Tokens in a window.")]


@app.callback()
def main() -> None:
    """Train, capture and measure a tiny Qwen2 model."""
    # More threads than idle cores slow such small matrices down many times over.
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()


@app.command("train")
def train_command(
    corpus: Corpus,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory that is made.")],
    steps: Annotated[int, typer.Option(min=1)] = Recipe.steps,
    seed: int = Recipe.seed,
    validation: Validation = VALIDATION,
    prompt: Annotated[str, typer.Option(help="Whose activations are kept.")] = PROMPT,
) -> None:
    """Train on all of the corpus but the validation document and write a checkpoint."""
    if output.exists():
        raise typer.BadParameter(f"Output must not exist yet, not {str(output)!r}")
    recipe = Recipe(steps=steps, seed=seed)
    training, held_out = read_texts(corpus, validation)
    command = (
        f"python -m scripts.train_tiny train --corpus {corpus.name} -o {output} "
        f"--steps {steps} --seed {seed} --validation {validation}"
    )
    with new_directory(output) as directory:
        figures = {"command": command, **train(directory, recipe, training, held_out)}
        capture(directory, prompt)
        write_figures(directory, {**figures, "prompt": prompt})
    print(json.dumps(figures["bits_per_byte"]))


def train(directory: Path, recipe: Recipe, training: list[Text], held_out: Text) -> dict[str, Any]:
    """Fill `directory` with a checkpoint in BF16; return what there is to say about it."""
    start = time.monotonic()
    make_tokenizer(training, recipe.vocabulary).save_pretrained(directory)
    # Loaded back, so that the model learns the very tokens that a user of the directory gets.
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = make_model(tokenizer, recipe.seed)
    untrained = _save_and_evaluate(directory, model, held_out, recipe.context)
    ids = torch.cat([token_ids(tokenizer, text.text) for text in training])
    with progress(recipe.steps) as report:
        fit(model, ids, recipe, report)
    trained = _save_and_evaluate(directory, model, held_out, recipe.context)
    tokens = len(token_ids(tokenizer, held_out.text)) - 1
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "model_sha256": file_sha256(directory / "model.safetensors"),
        "recipe": asdict(recipe),
        "versions": {name: version(name) for name in ("torch", "transformers", "tokenizers")}
        | {"python": platform.python_version()},
        "seconds": round(time.monotonic() - start),
        "corpus": [text.summary for text in [*training, held_out]],
        "validation": {"name": held_out.name, "tokens": tokens, "context": recipe.context},
        "bits_per_byte": {"untrained": untrained, "trained": trained, "packed": {}},
    }


def _save_and_evaluate(directory: Path, model: nn.Module, text: Text, context: int) -> float:
    """The loss of the weights as they are stored; `model` itself stays in float32."""
    copy.deepcopy(model).bfloat16().save_pretrained(directory)
    return evaluate_directory(directory, text, context)


@app.command("evaluate")
def evaluate_command(
    model: Model,
    corpus: Corpus,
    validation: Validation = VALIDATION,
    context: Context = Recipe.context,
) -> None:
    """Print the bits per byte of a document for any model that transformers can load."""
    _, text = read_texts(corpus, validation)
    loss = evaluate_directory(model, text, context)
    print(f"{loss:.4f} bits a byte ({text.name}, {len(text.data)} bytes, context {context})")


@app.command("capture")
def capture_command(model: Model, prompt: str = PROMPT) -> None:
    """Write the activations of a prompt beside the model, and name the prompt in its card."""
    capture(model, prompt)
    figures = json.loads((model / "training.json").read_text())
    write_figures(model, {**figures, "prompt": prompt})


@app.command("measure")
def measure_command(model: Model, corpus: Corpus) -> None:
    """Measure the model packed at each depth; state the losses in its card and training.json."""
    figures = json.loads((model / "training.json").read_text())
    _, text = read_texts(corpus, figures["validation"]["name"])
    for depth in DEPTHS:
        with tempfile.TemporaryDirectory() as scratch:
            exported = export_packed(model, Path(scratch), depth)
            loss = evaluate_directory(exported, text, figures["validation"]["context"])
        figures["bits_per_byte"]["packed"][str(depth)] = loss
        print(f"depth {depth}: {loss:.4f} bits a byte", flush=True)
    write_figures(model, figures)


def export_packed(source: Path, scratch: Path, depth: int) -> Path:
    """The checkpoint `source` packed at `depth` and exported again, in float16."""
    pack_checkpoint(source, scratch / "packed", depth)
    export(scratch / "packed", scratch / "exported")
    return scratch / "exported"


if __name__ == "__main__":
    app()
