"""Importance matrix of llama.cpp: mean squares of the inputs of each matrix, per column."""

from contextlib import ExitStack
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save

from tritstream.golden.checkpoints.source import Source
from tritstream.scripts.console import progress, write_bytes
from tritstream.scripts.weights.calibration_texts import calibration_texts, read_windows
from tritstream.scripts.weights.linear_layers import linear_layers

__all__ = ["imatrix_file", "mean_squares"]


def imatrix_file(base: Source, text: Path, tokens: int, path: Path) -> dict[str, np.ndarray]:
    """Return :func:`mean_squares`, which is kept in a file and computed only once."""
    if not path.is_file():
        write_bytes(path, save(mean_squares(base, text, tokens)))
    return load_file(path)


def mean_squares(base: Source, text: Path, tokens: int) -> dict[str, np.ndarray]:
    """Return the mean square of each input of a matrix over the tokens of a text.

    The tokens are those that ``tritstream calibrate --no-random`` reads. The result is float32 (K,)
    by module.
    """
    import torch

    from tritstream.host.model.load import load_model
    from tritstream.host.model.skeleton import linear_layer

    model = load_model(base.path)
    windows = read_windows(base.path, calibration_texts([str(text)], random=False), tokens,
                           lambda: model)
    places = linear_layers(base, model)
    sums = {name: torch.zeros(base.tensors[f"{name}.weight"].shape[1], dtype=torch.float64)
            for name in base.matrices()}

    def watch(name: str):
        def add(layer, inputs) -> None:
            sums[name] += inputs[0].double().flatten(0, -2).square().sum(0)
        return add

    with ExitStack() as stack, progress("importance", len(windows)) as advance:
        for name in sums:
            layer = linear_layer(model, places[name])
            stack.callback(layer.register_forward_pre_hook(watch(name)).remove)
        with torch.inference_mode():
            for window in windows:
                # The head is not needed for the inputs of the layers before it.
                model.base_model(input_ids=window[None], use_cache=False)
                advance(1)
    count = sum(map(len, windows))
    return {name: (total / count).float().numpy() for name, total in sums.items()}
