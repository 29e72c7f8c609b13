"""Checkpoints such as are published: quantized to trits, stored dequantized.

Written from the published description of the codec alone, and with nothing of this project's: what
it makes is what `tritstream import` must understand. On its own it writes a checkpoint:

    PYTHONPATH=tests python -m support.published OUT --depth 3 --layers 4 --hidden 896
        --intermediate 4864
"""

import argparse
import json
import math
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32}
CANDIDATES = (10, 12, 14, 15)

#: Functions that compute a weight from scale, level and largest level, arrays of one dtype.
FORMS = {
    "s*q/h":   lambda s, q, h: s * q / h,
    "s*(q/h)": lambda s, q, h: s * (q / h),
    "s/h*q":   lambda s, q, h: s / h * q,
}

#: Functions that compute the value of a digit +1 with place value p, a power of three up to m,
#: before all digits are added up.
PLANES = {
    "s*p/h":     lambda s, p, h, m: s * p / h,
    "s*(p/h)":   lambda s, p, h, m: s * (p / h),
    "s/h*p":     lambda s, p, h, m: s / h * p,
    "s*(p/m)":   lambda s, p, h, m: s * (p / m),
    "wide s*p/h": lambda s, p, h, m: (
        s.astype(np.float32) * np.float32(p) / np.float32(h)).astype(s.dtype),
    "times 3":   lambda s, p, h, m: s / h if p == 1 else PLANES["times 3"](s, p / 3, h, m) * 3,
    "by thirds": lambda s, p, h, m: s if p == m else PLANES["by thirds"](s, p * 3, h, m) / 3,
}
#: The same for a scale that is applied after the sum: functions for a digit and for the sum.
SCALED_AFTER = {
    "s*sum of p/h": (lambda s, p, h, m: p / h, lambda s, total, h: s * total),
    "s*sum of p/m": (lambda s, p, h, m: p / m, lambda s, total, h: s * total),
    "sum of s*p, /h": (lambda s, p, h, m: s * p, lambda s, total, h: total / h),
}
SUMS = ("low first", "high first", "at once")
#: Forms that add up digits: how a digit is computed, and in which order they are added.
DIGIT_FORMS = [f"{planes}, {how}" for planes in (*PLANES, *SCALED_AFTER) for how in SUMS]


def draw_weights(rng, rows, columns, spread=0.5):
    """Gaussian weights whose rows differ in size, as those of trained layers do."""
    size = 0.02 * np.exp(spread * rng.standard_normal((rows, 1)))
    return (rng.standard_normal((rows, columns)) * size).astype(np.float32)


def quantize(weights, depth, ends="max", rederive=True):
    """Levels (N, K), codes (N, K/16) and the table of 27 scales of a matrix."""
    rows, columns = weights.shape
    padded = np.zeros((rows, -(-columns // 16) * 16), np.float32)
    padded[:, :columns] = weights
    groups = padded.reshape(rows, -1, 16)
    half = (3 ** depth - 1) // 2
    scales = best_scales(groups, half)
    table = log_table(scales, ends)
    edges = np.sqrt(table[1:] * table[:-1])
    codes = np.searchsorted(edges, scales)
    levels = nearest(groups, table[codes] if rederive else scales, half)
    return levels.reshape(rows, -1)[:, :columns], codes, table


def nearest(groups, scales, half):
    scales = np.where(scales > 0, scales, np.inf)[..., None]
    return np.rint(np.clip(groups / scales, -1, 1) * half)


def best_scales(groups, half):
    """The candidate of each group with the least squared error."""
    candidates = np.sort(np.abs(groups), axis=-1)[..., CANDIDATES]
    errors = []
    for place in range(len(CANDIDATES)):
        scale = candidates[..., place]
        error = groups - nearest(groups, scale, half) * (scale / half)[..., None]
        errors.append(np.square(error).sum(axis=-1))
    best = np.argmin(errors, axis=0)
    return np.take_along_axis(candidates, best[..., None], -1)[..., 0]


def log_table(scales, ends):
    """27 scales, even in logarithm: from the least scale to the greatest, or to another end."""
    live = scales[scales > 0].astype(np.float64)
    low, high = live.min(), live.max()
    if ends == "percentile":
        low, high = np.percentile(live, [0.1, 99.9])
    elif ends == "capped":
        high = min(high, 4 * np.percentile(live, 99))
    elif ends != "max":
        raise ValueError(ends)
    return np.exp(np.linspace(math.log(low), math.log(high), 27)).astype(np.float32)


def dequantize(levels, codes, table, depth, form="s*q/h", inner="float32"):
    """Weights (N, K) computed in ``inner``, in its own dtype."""
    kind = DTYPES[inner]
    scales = np.repeat(table.astype(kind)[codes], 16, axis=1)[:, :levels.shape[1]]
    if form in DIGIT_FORMS:
        return add_digits(levels, scales, depth, form)
    with np.errstate(over="ignore"):
        return FORMS[form](scales, levels.astype(kind), kind((3 ** depth - 1) // 2))


def digits_of(levels, depth):
    """Balanced ternary digits, the lowest first: the remainder of 2 is -1."""
    digits, rest = [], levels.astype(np.int64)
    for _ in range(depth):
        digit = (rest + 1) % 3 - 1
        digits.append(digit)
        rest = (rest - digit) // 3
    assert not rest.any()
    return digits


def add_digits(levels, scales, depth, form):
    """Weights as sums of digits, in the dtype of the scales (N, K)."""
    kind = scales.dtype.type
    planes, how = form.rsplit(", ", 1)
    plane, after = SCALED_AFTER.get(planes) or (PLANES[planes], lambda s, total, h: total)
    h, m = kind((3 ** depth - 1) // 2), kind(3 ** (depth - 1))
    terms = [digit.astype(kind) * plane(scales, kind(3 ** i), h, m)
             for i, digit in enumerate(digits_of(levels, depth))]
    if how == "high first":
        terms.reverse()
    if how == "at once":
        total = np.sum([term.astype(np.float32) for term in terms], axis=0).astype(kind)
    else:
        total = np.zeros_like(terms[0])
        for term in terms:
            total = total + term
    return after(scales, total, h)


def published(rng, rows, columns, depth, dtype="float16", form="s*q/h", inner="float32",
              ends="max", rederive=True, spread=0.5):
    """A matrix as it would be stored."""
    levels, codes, table = quantize(draw_weights(rng, rows, columns, spread), depth, ends, rederive)
    return dequantize(levels, codes, table, depth, form, inner).astype(DTYPES[dtype])


def strange(seed, forms=tuple(FORMS)):
    """A random matrix of which the codec would make few: what it is in words, and its depth.

    Tables in no order, narrow, wide, with entries that nearly or quite agree; groups with few
    weights, few different weights, or with a common factor; subnormal weights; rare codes.
    """
    rng = np.random.default_rng(seed)
    depth = int(rng.integers(1, 5))
    dtype, inner = (str(rng.choice(list(DTYPES))) for _ in range(2))
    form = str(rng.choice(forms))
    rows, groups = int(rng.integers(1, 150)), int(rng.integers(1, 20))
    kind, table = draw_table(rng)
    codes = rng.choice(27, (rows, groups), p=rng.dirichlet(np.full(27, rng.choice([0.05, 0.5, 5]))))
    size = (3 ** depth - 1) // 2
    drawn = [draw_levels(rng, size, (min(8, rows - row), groups, 16)) for row in range(0, rows, 8)]
    if rng.random() < 0.7:
        how, _ = drawn[0]
        drawn = [draw_levels(rng, size, (rows, groups, 16), how)]
    else:
        how = "of all kinds"
    levels = np.concatenate([part for _, part in drawn]).reshape(rows, -1)
    levels = levels[:, :levels.shape[1] - int(rng.choice([0, 0, 3, 15]))]
    weights = dequantize(levels, codes, table, depth, form, inner).astype(DTYPES[dtype])
    return f"{seed}: {levels.shape} {how}, {kind} table, {form} in {inner}", depth, weights


def draw_table(rng):
    """27 scales in no order, and what they are like."""
    kind = str(rng.choice(["even", "narrow", "wide", "linear", "random", "close", "fractions",
                           "few"]))
    top = float(np.exp(rng.normal(-3, 1))) * float(rng.choice([1, 1, 1, 1e-3, 1e-5]))
    table = top * np.exp(-rng.uniform(0, rng.uniform(0.1, 6), 27))
    if kind in ("even", "narrow", "wide"):
        ends = {"even": (3, 1000), "narrow": (1.0005, 1.3), "wide": (1e3, 2e5)}[kind]
        table = np.geomspace(top / rng.uniform(*ends), top, 27)
    elif kind == "linear":
        table = np.linspace(top / rng.uniform(5, 100), top, 27)
    elif kind == "close":
        table[1::2] = table[:-1:2] * (1 + rng.uniform(1e-4, 4e-3, 13))
    elif kind == "fractions":
        table = top / rng.integers(1, 41, 27)
    elif kind == "few":
        table[rng.integers(1, 6):] = table[0]
    return kind, rng.permutation(table).astype(np.float32)


def draw_levels(rng, half, shape, how=None):
    """Levels of groups (..., 16), and what they are like."""
    how = how or str(rng.choice(["gaussian", "uniform", "sparse", "single", "multiples", "two",
                                 "largest"]))
    levels = rng.integers(-half, half + 1, shape)
    if how == "gaussian":
        levels = np.clip(np.rint(rng.normal(0, half * rng.uniform(0.3, 1), shape)), -half, half)
    elif how == "sparse":
        levels *= rng.random(shape) < rng.uniform(0.02, 0.3)
    elif how == "single":
        levels *= np.arange(16) == rng.integers(16)
    elif how == "multiples":
        factor = int(rng.integers(2, max(3, half // 2 + 1)))
        levels = np.clip(levels // factor * factor, -half, half)
    elif how == "two":
        levels = rng.choice(rng.integers(-half, half + 1, 2), shape)
    elif how == "largest":
        levels = rng.choice([-half, half], shape)
    return how, levels


def tensors_of_layer(rng, layer, hidden, intermediate, make):
    """Names and tensors of one layer in the manner of Qwen2; ``make(rows, columns)`` a matrix."""
    name = f"model.layers.{layer}"
    narrow = max(16, hidden // 7)
    shapes = {
        "self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (narrow, hidden),
        "self_attn.v_proj": (narrow, hidden), "self_attn.o_proj": (hidden, hidden),
        "mlp.gate_proj": (intermediate, hidden), "mlp.up_proj": (intermediate, hidden),
        "mlp.down_proj": (hidden, intermediate)}
    tensors = {f"{name}.{module}.weight": make(*shape) for module, shape in shapes.items()}
    for module in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"):
        tensors[f"{name}.{module}.bias"] = rng.standard_normal(shapes[module][0])
    tensors[f"{name}.input_layernorm.weight"] = rng.standard_normal(hidden)
    return tensors


def write_checkpoint(path, depth=3, dtype="float16", layers=2, hidden=64, intermediate=160,
                     vocabulary=48, shards=1, tied=True, seed=0, **how):
    """Write a checkpoint and return its tensors. ``how`` is passed to :func:`published`."""
    rng = np.random.default_rng(seed)
    path = Path(path)
    path.mkdir(parents=True)
    tensors = {"model.embed_tokens.weight": rng.standard_normal((vocabulary, hidden))}
    for layer in range(layers):
        tensors |= tensors_of_layer(
            rng, layer, hidden, intermediate,
            lambda rows, columns: published(rng, rows, columns, depth, dtype, **how))
    tensors["model.norm.weight"] = rng.standard_normal(hidden)
    if not tied:
        tensors["lm_head.weight"] = rng.standard_normal((vocabulary, hidden))
    tensors = {name: tensor.astype(DTYPES[dtype]) for name, tensor in tensors.items()}
    (path / "config.json").write_text(json.dumps({
        "hidden_size": hidden, "tie_word_embeddings": tied, "torch_dtype": dtype}))
    (path / "LICENSE").write_text("as is\n")
    save(path, tensors, shards)
    return tensors


def save(path, tensors, shards):
    if shards == 1:
        save_file(tensors, path / "model.safetensors", {"format": "pt"})
        return
    places = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        names = list(tensors)[number::shards]
        save_file({name: tensors[name] for name in names}, path / file, {"format": "pt"})
        places |= dict.fromkeys(names, file)
    size = sum(tensor.nbytes for tensor in tensors.values())
    (path / "model.safetensors.index.json").write_text(json.dumps(
        {"metadata": {"total_size": size}, "weight_map": places}))


def change_tensor(path, name, places, value):
    """Set values of a tensor in a checkpoint of one file, and return all tensors."""
    file = path / "model.safetensors"
    tensors = load_file(file)
    tensors[name][places] = value
    save_file(tensors, file, {"format": "pt"})
    return tensors


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    for name, default in (("depth", 3), ("layers", 2), ("hidden", 896), ("intermediate", 4864),
                          ("vocabulary", 1000), ("shards", 1), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--dtype", choices=DTYPES, default="float16")
    parser.add_argument("--form", choices=(*FORMS, *DIGIT_FORMS), default="s*q/h")
    parser.add_argument("--inner", choices=DTYPES, default="float32")
    parser.add_argument("--ends", choices=("max", "percentile", "capped"), default="max")
    parser.add_argument("--untied", dest="tied", action="store_false")
    write_checkpoint(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
