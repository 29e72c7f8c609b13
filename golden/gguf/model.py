"""Models of GGUF files: sizes, configuration and names of tensors."""

from collections.abc import Iterator, Set

from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.errors import CheckpointError
from tritstream.golden.gguf.architectures import (
    ATTENTION,
    FEED_FORWARD,
    Architecture,
    read_architecture,
)
from tritstream.golden.gguf.fields import ORIGINAL, Fields
from tritstream.golden.gguf.reader import Gguf
from tritstream.golden.gguf.rope import FACTORS, rope_config
from tritstream.golden.gguf.tensors import GgufTensor
from tritstream.golden.model_sizes import Sizes

__all__ = ["read_model"]

_TOKENS, _HEAD = "token_embd.weight", "output.weight"


def read_model(gguf: Gguf) -> tuple[dict, dict[str, GgufTensor]]:
    """Return the configuration, and tensors by Hugging Face's names in the order of their bytes.

    Raises :class:`CheckpointError` for another architecture, for a field or tensor that has no
    counterpart or is missing, and for a tensor whose shape does not match the sizes.
    """
    name, architecture = read_architecture(gguf)
    _check_whole(gguf)
    fields = Fields(gguf, name)
    sizes = _read_sizes(gguf, fields)
    biased = _biased(gguf, architecture)
    tensors = _tensors(gguf, architecture, sizes, biased)
    config = _config(gguf, fields, architecture, sizes) | {"torch_dtype": _dtype(tensors)}
    if architecture.biased is None:
        config |= {"attention_bias": "attn_q" in biased, "mlp_bias": "ffn_up" in biased}
    fields.finish()
    return config, tensors


def _check_whole(gguf: Gguf) -> None:
    parts = gguf.metadata.get("split.count", 1)
    if parts != 1:
        raise CheckpointError(f"{gguf.path}: one of {parts} parts; join them with "
                              "llama-gguf-split --merge")


def _read_sizes(gguf: Gguf, fields: Fields) -> Sizes:
    if fields.get("expert_count", 0):
        raise CheckpointError(f"{gguf.path}: a mixture of experts, which is not "
                              "supported; " + ORIGINAL)
    fields.get("expert_used_count")
    layers, hidden = fields.integer("block_count"), fields.integer("embedding_length")
    heads = fields.integer("attention.head_count")
    kv_heads = fields.integer("attention.head_count_kv", heads)
    head = fields.integer("attention.key_length", max(1, hidden // heads))
    fields.neutral("attention.value_length", head)
    fields.neutral("rope.dimension_count", head)
    if heads % kv_heads or head % 2:
        raise CheckpointError(f"{gguf.path}: {heads} heads of {head}, {kv_heads} of keys and "
                              "values, do not go together; " + ORIGINAL)
    if _TOKENS not in gguf.tensors:
        raise CheckpointError(f"{gguf.path}: has no {_TOKENS}; " + ORIGINAL)
    vocabulary = gguf.tensors[_TOKENS].shape[0]
    fields.neutral("vocab_size", vocabulary)
    return Sizes(layers, hidden, fields.integer("feed_forward_length"), heads, kv_heads, head,
                  vocabulary)


def _config(gguf: Gguf, fields: Fields, architecture: Architecture, sizes: Sizes) -> dict:
    context = fields.integer("context_length")
    window = fields.get("attention.sliding_window", 0)
    if type(window) is not int or 0 < window < context:
        raise fields.unmapped("attention.sliding_window", window)
    for key, *values in (("attention.causal", True), ("use_parallel_residual", False),
                         ("tensor_data_layout", "Meta AI original pth"),
                         ("attention.scale", 0.0, sizes.head ** -0.5)):
        fields.neutral(key, *values)
    config = {
        "architectures": [architecture.model], "model_type": architecture.model_type,
        **sizes.config(), "hidden_act": architecture.activation, "max_position_embeddings": context,
        "rms_norm_eps": fields.number("attention.layer_norm_rms_epsilon"),
        "tie_word_embeddings": _HEAD not in gguf.tensors,
    }
    return config | rope_config(gguf, fields, sizes.head)


def _biased(gguf: Gguf, architecture: Architecture) -> Set[str]:
    """Return the linear layers with a bias. Hugging Face has one flag per kind of layer."""
    if architecture.biased is not None:
        return architecture.biased
    found: set[str] = set()
    for kind in (ATTENTION, FEED_FORWARD):
        if any(f"blk.0.{name}.bias" in gguf.tensors for name in kind):
            found |= set(kind)
    return found


def _tensors(
    gguf: Gguf, architecture: Architecture, sizes: Sizes, biased: Set[str],
) -> dict[str, GgufTensor]:
    if sizes.layers > len(gguf.tensors):
        raise CheckpointError(f"{gguf.path}: {sizes.layers} layers, but only {len(gguf.tensors)} "
                              "tensors; copy the file again")
    expected = {name: (theirs, shape, head) for name, theirs, shape, head
                in _expected(gguf, architecture, sizes, biased)}
    for name in expected:
        if name not in gguf.tensors:
            raise CheckpointError(f"{gguf.path}: has no {name}; " + ORIGINAL)
    found = {}
    for name, raw in gguf.tensors.items():
        if name == FACTORS and architecture.model_type == "llama":
            continue
        if name not in expected:
            raise CheckpointError(f"{gguf.path}: {name} has no counterpart in Hugging Face's "
                                  f"{architecture.model_type}; " + ORIGINAL)
        theirs, shape, head = expected[name]
        if raw.shape != shape:
            raise CheckpointError(f"{gguf.path}: {name} must have shape {shape}, not "
                                  f"{raw.shape}; " + ORIGINAL)
        found[theirs] = GgufTensor(theirs, gguf.path, raw, head)
    return found


def _expected(
    gguf: Gguf, architecture: Architecture, sizes: Sizes, biased: Set[str],
) -> Iterator[tuple[str, str, tuple[int, ...], int]]:
    """Yield for each tensor: GGUF name, Hugging Face name, shape, rows per permuted head or 1."""
    table = (sizes.vocabulary, sizes.hidden)
    yield _TOKENS, "model.embed_tokens.weight", table, 1
    if _HEAD in gguf.tensors:
        yield _HEAD, "lm_head.weight", table, 1
    yield "output_norm.weight", "model.norm.weight", (sizes.hidden,), 1
    linear, shapes = {**ATTENTION, **FEED_FORWARD}, sizes.linear()
    for layer in range(sizes.layers):
        ours, theirs = f"blk.{layer}", f"model.layers.{layer}"
        for name, norm in architecture.norms.items():
            size = architecture.norm_size(name, sizes)
            yield f"{ours}.{name}.weight", f"{theirs}.{norm}.weight", (size,), 1
        for name, module in linear.items():
            head = sizes.head if name in architecture.permuted else 1
            yield f"{ours}.{name}.weight", f"{theirs}.{module}.weight", shapes[module], head
            if name in biased:
                yield f"{ours}.{name}.bias", f"{theirs}.{module}.bias", shapes[module][:1], head


def _dtype(tensors: dict[str, GgufTensor]) -> str:
    """Return the dtype of all matrices, float32 if they differ. transformers casts norms to it."""
    dtypes = {tensor.dtype for tensor in tensors.values() if len(tensor.shape) == 2}
    return DTYPES[dtypes.pop() if len(dtypes) == 1 else "F32"].name
