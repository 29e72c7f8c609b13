"""Train, capture and measure the tiny Qwen2 model in `models/tiny-qwen2`.

    tritstream dev train train --corpus r-cran-janeaustenr_1.0.0-1_all.deb -o DIRECTORY
    tritstream dev train measure DIRECTORY --corpus ...   # packed, at each depth
    tritstream dev train ternary DIRECTORY --corpus ... -o TERNARY   # quantization-aware, d = 1
    tritstream dev train evaluate DIRECTORY --corpus ...  # any causal model
    tritstream dev train capture DIRECTORY --prompt "..."

The command needs the extras `torch` and `corpus`; using the trained model needs neither. Quality
is measured in bits per byte of held-out text, which does not depend on a tokenizer: all nats of the
text / ln 2 / its UTF-8 bytes. Every token is scored, in disjoint windows of `--context` tokens.
"""

import copy
import hashlib
import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import transformers
import typer
from rich.console import Console
from rich.progress import Progress
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from tritstream.golden.packed.export import export
from tritstream.golden.packed.pack import pack_checkpoint
from tritstream.golden.recover.import_checkpoint import import_checkpoint
from tritstream.host.model.load import load_model
from tritstream.scripts.console import write_json
from tritstream.scripts.corpus import Text, hold_out, read_corpus
from tritstream.scripts.training.card import write_figures, write_ternary_card
from tritstream.scripts.training.learning import (
    Recipe,
    bits_per_byte,
    evaluate_directory,
    fit,
    make_model,
    make_tokenizer,
    token_ids,
)
from tritstream.scripts.training.ternary import STORED, make_ternary, stored_tensors

__all__ = ["capture"]

VALIDATION = "persuasion"
PROMPT = "She had always wished to be a good sister, and now she was."
DEPTHS = (1, 2, 3, 4)
STEPS_PER_LINE = 100

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
console = Console()


def capture(directory: Path, prompt: str) -> None:
    """Write `activations.safetensors`: the input of each linear layer for `prompt`.

    It contains one float32 array (tokens, K) per module, by module name. The metadata contain the
    prompt, its token ids and the digest of the weights. The head is left out, because it is the
    embedding, which is not packed.
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
def _linear_inputs(model: PreTrainedModel, ids: Tensor) -> dict[str, Tensor]:
    inputs: dict[str, Tensor] = {}

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
    """Yield a directory to fill, which becomes `path` if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        directory = Path(scratch) / path.name
        directory.mkdir()
        yield directory
        directory.rename(path)


@contextmanager
def progress(steps: int) -> Iterator[Callable[[float], None]]:
    """Show a bar on a terminal, else a line per `STEPS_PER_LINE` steps; yield `report(loss)`."""
    losses: list[float] = []
    with Progress(console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("training", total=steps)

        def report(loss: float) -> None:
            losses.append(loss)
            recent = sum(losses[-STEPS_PER_LINE:]) / len(losses[-STEPS_PER_LINE:])
            bar.update(task, advance=1, description=f"training, {recent:.3f} nats per token")
            if not console.is_terminal and len(losses) % STEPS_PER_LINE == 0:
                print(f"step {len(losses)} of {steps}: {recent:.3f} nats per token", flush=True)

        yield report


def read_texts(corpus: Path, validation: str) -> tuple[list[Text], Text]:
    """Return training texts and the validation text; raise a usage error for a bad corpus."""
    try:
        return hold_out(read_corpus(corpus), validation)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


Corpus = Annotated[Path, typer.Option(
    exists=True, help="Corpus: the Debian package r-cran-janeaustenr, or a directory of texts.")]
Model = Annotated[Path, typer.Argument(
    exists=True, file_okay=False, help="Directory of the model.")]
Validation = Annotated[str, typer.Option(help="Name of the document that is held out.")]
Context = Annotated[int, typer.Option(min=1, help="Tokens per window.")]
Prompt = Annotated[str, typer.Option(help="Prompt whose activations are stored.")]


@app.callback()
def main() -> None:
    """Train, capture and measure a tiny Qwen2 model."""
    # With more threads than idle cores, such small matrices take many times as long.
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()


@app.command("train")
def train_command(
    corpus: Corpus,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to write.")],
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = Recipe.steps,
    seed: Annotated[int, typer.Option(help="Random seed of the training.")] = Recipe.seed,
    validation: Validation = VALIDATION,
    prompt: Prompt = PROMPT,
) -> None:
    """Train on the corpus without the validation document, and write a checkpoint."""
    if output.exists():
        raise typer.BadParameter(f"Output must not exist yet, not {str(output)!r}")
    recipe = Recipe(steps=steps, seed=seed)
    training, held_out = read_texts(corpus, validation)
    command = (
        f"tritstream dev train train --corpus {corpus.name} -o {output} "
        f"--steps {steps} --seed {seed} --validation {validation}"
    )
    with new_directory(output) as directory:
        figures = {"command": command, **train(directory, recipe, training, held_out)}
        capture(directory, prompt)
        write_figures(directory, {**figures, "prompt": prompt})
    print(json.dumps(figures["bits_per_byte"]))


def train(directory: Path, recipe: Recipe, training: list[Text], held_out: Text) -> dict[str, Any]:
    """Fill `directory` with a checkpoint in BF16, and return its figures."""
    start = time.monotonic()
    make_tokenizer(training, recipe.vocabulary).save_pretrained(directory)
    # Load it back, so that the model learns exactly the tokens that users of the directory get.
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


def _save_and_evaluate(directory: Path, model: PreTrainedModel, text: Text, context: int) -> float:
    """Store the weights in BF16 and return their loss; `model` itself stays in float32."""
    stored = copy.deepcopy(model)
    stored.bfloat16()
    stored.save_pretrained(directory)
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
    print(f"{loss:.4f} bits per byte ({text.name}, {len(text.data)} bytes, context {context})")


@app.command("capture")
def capture_command(model: Model, prompt: Prompt = PROMPT) -> None:
    """Write the activations of a prompt next to the model, and the prompt into its card."""
    capture(model, prompt)
    figures = json.loads((model / "training.json").read_text())
    write_figures(model, {**figures, "prompt": prompt})


@app.command("measure")
def measure_command(model: Model, corpus: Corpus) -> None:
    """Measure the model packed at each depth; write the losses to card and training.json."""
    figures = json.loads((model / "training.json").read_text())
    _, text = read_texts(corpus, figures["validation"]["name"])
    for depth in DEPTHS:
        with tempfile.TemporaryDirectory() as scratch:
            exported = export_packed(model, Path(scratch), depth)
            loss = evaluate_directory(exported, text, figures["validation"]["context"])
        figures["bits_per_byte"]["packed"][str(depth)] = loss
        print(f"depth {depth}: {loss:.4f} bits per byte", flush=True)
    write_figures(model, figures)


@app.command("ternary")
def ternary_command(
    model: Model,
    corpus: Corpus,
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory to write.")],
    steps: Annotated[int, typer.Option(min=1, help="Training steps.")] = 1000,
    seed: Annotated[int, typer.Option(help="Random seed of the training.")] = 2,
    rate: Annotated[float, typer.Option(help="Largest learning rate.")] = 2e-3,
    validation: Validation = VALIDATION,
) -> None:
    """Train a model further, with ternary weights and 8-bit activations, as BitNet is trained."""
    if output.exists():
        raise typer.BadParameter(f"Output must not exist yet, not {str(output)!r}")
    recipe = Recipe(steps=steps, seed=seed, learning_rate=rate)
    training, held_out = read_texts(corpus, validation)
    with new_directory(output) as directory:
        figures = train_ternary(model, directory, recipe, training, held_out)
        command = (f"tritstream dev train ternary {model} --corpus {corpus.name} -o {output} "
                   f"--steps {steps} --seed {seed} --rate {rate} --validation {validation}")
        write_json(directory / "training.json", {"command": command, **figures})
        write_ternary_card(directory, model)
    print(json.dumps(figures["bits_per_byte"]))


def train_ternary(
    base: Path, directory: Path, recipe: Recipe, training: list[Text], held_out: Text,
) -> dict[str, Any]:
    """Fill `directory` with a ternary checkpoint, and return its figures."""
    start = time.monotonic()
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    make_ternary(model)
    ids = torch.cat([token_ids(tokenizer, text.text) for text in training])
    with progress(recipe.steps) as report:
        fit(model, ids, recipe, report)
    for name in ("config.json", "generation_config.json", "tokenizer.json",
                 "tokenizer_config.json"):
        shutil.copyfile(base / name, directory / name)
    config = json.loads((directory / "config.json").read_text())
    write_json(directory / "config.json", config | {"quantization_config": STORED})
    save_file(stored_tensors(model), directory / "model.safetensors", {"format": "pt"})
    seconds = round(time.monotonic() - start)
    return {
        "base": base.name, "base_sha256": file_sha256(base / "model.safetensors"),
        "model_sha256": file_sha256(directory / "model.safetensors"), "recipe": asdict(recipe),
        "versions": {name: version(name) for name in ("torch", "transformers")}
        | {"python": platform.python_version()},
        "seconds": seconds, "validation": {"name": held_out.name, "context": recipe.context},
        "bits_per_byte": ternary_losses(directory, held_out, recipe.context),
    }


def ternary_losses(directory: Path, text: Text, context: int) -> dict[str, float]:
    """Return the bits per byte of a ternary model, packed: with floats, and with 8 bits."""
    ids = token_ids(AutoTokenizer.from_pretrained(directory), text.text)
    with tempfile.TemporaryDirectory() as scratch:
        import_checkpoint(directory, Path(scratch) / "packed")
        return {name: bits_per_byte(load_model(Path(scratch) / "packed", backend=backend), ids,
                                    len(text.data), context)
                for name, backend in (("floats", "reference"), ("8 bits", "cpu"))}


def export_packed(source: Path, scratch: Path, depth: int) -> Path:
    """Pack the checkpoint `source` at `depth`, and return the directory of its float16 export."""
    pack_checkpoint(source, scratch / "packed", depth)
    export(scratch / "packed", scratch / "exported")
    return scratch / "exported"


if __name__ == "__main__":
    app()
