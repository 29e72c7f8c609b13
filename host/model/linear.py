"""Linear and embedding layers with packed weights."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tritstream.golden.checkpoints.safetensors_reader import DTYPES
from tritstream.golden.packed.layout import TILES, Layout
from tritstream.host.model.backends import Product, TilesHolder
from tritstream.host.torch_values import to_torch

__all__ = ["PackedLayer", "Rows", "TritEmbedding", "TritLinear"]

#: Function from row numbers of a matrix, int64 (T,), to float32 (T, K).
Rows = Callable[[np.ndarray], np.ndarray]

_NOT_LOADED = ("this layer has no backend: load the model by from_pretrained, or call "
               "tritstream.host.model.held.set_backend")


class PackedLayer(nn.Module):
    """Base class of layers whose weights are a packed matrix (N, K).

    Members
    -------
    matrix : str
        Name of the matrix in the checkpoint.
    depth : int
        Trits per weight.
    trits, scales : Tensor
        Tiles and table of the matrix, as in the checkpoint: uint8 and float32 (27,). In another
        layout trits and scales as the checkpoint has them, and ``codes`` if they are apart. The
        tiles are empty, uint8 (0,), while another object has them: :meth:`keep`.
    stored : bool
        Whether the state dict has the matrix. The second of two layers with the same matrix does
        not store it.
    dtype : torch.dtype
        Dtype of the replaced weights.
    """

    trits:  Tensor
    scales: Tensor

    def __init__(self, shape: tuple[int, int], matrix: str, depth: int, stored: bool,
                 layout: Layout = TILES):
        super().__init__()
        self.matrix, self.depth, self.stored = matrix, depth, stored
        self.dtype = torch.float32
        self._holder: TilesHolder | None = None
        for entry in layout.entries("", shape, depth):
            value = to_torch(np.empty(entry.shape, DTYPES[entry.dtype]))
            # The default device of torch is the meta device while a model is loaded.
            value = value.to(torch.empty(0).device)
            self.register_buffer(entry.name.removeprefix("."), value, persistent=stored)

    def tiles(self) -> Tensor:
        """Return the tiles of the matrix, which may be made for this call."""
        if self._holder is None:
            return self.trits
        return torch.from_numpy(self._holder.tiles()).to(self.trits.device)

    def keep(self, tiles: Tensor | TilesHolder) -> None:
        """Keep tiles of the matrix, or another object that has them."""
        if isinstance(tiles, Tensor):
            self.trits, self._holder = tiles, None
        else:
            self.trits, self._holder = self.trits.new_empty(0), tiles
            # A part of the file would keep all of it mapped.
            for name in ("scales", "codes"):
                if name in self._buffers:
                    setattr(self, name, getattr(self, name).clone())

    def _save_to_state_dict(self, destination: dict, prefix: str, keep_vars: bool) -> None:
        """Add the tensors of the layer to a state dict, with tiles that another object has."""
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self.stored:
            destination[f"{prefix}trits"] = self.tiles()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        """Apply a change of device or dtype. The scales keep their dtype, and the layer casts."""
        scales, self.dtype = self.scales, fn(self.scales.new_empty(0, dtype=self.dtype)).dtype
        super()._apply(fn, recurse)
        self.scales = scales.to(self.scales.device)
        return self


class TritLinear(PackedLayer):
    """Replacement for ``torch.nn.Linear``: a backend computes the product, then the bias is added.

    For inference only. The bias is a parameter as usual, the weights are not.

    Members
    -------
    in_features, out_features : int
        Columns K and rows N of the matrix.
    product : tritstream.host.model.backends.Product or None
        Product with the matrix; None until the layer has a backend.
    bias : torch.nn.Parameter or None
        Values (N,) that are added to each result.
    """

    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, matrix: str = "",
                 depth: int = 3, stored: bool = True, layout: Layout = TILES):
        super().__init__((out_features, in_features), matrix, depth, stored, layout)
        self.in_features, self.out_features = in_features, out_features
        self.product: Product | None = None
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features)) if bias else None)

    @property
    def weight(self) -> Tensor:
        """Empty tensor (0,), because some models read the dtype of a weight before a product."""
        return torch.empty(0, dtype=self.dtype, device=self.trits.device)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply float (..., K); return float (..., N)."""
        if self.product is None:
            raise RuntimeError(_NOT_LOADED)
        rows = self.product(x.detach().reshape(-1, self.in_features))
        rows = rows.to(x).reshape(*x.shape[:-1], self.out_features)
        return rows if self.bias is None else rows + self.bias

    def extra_repr(self) -> str:
        """Return the text that ``print(model)`` shows for this layer."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class TritEmbedding(PackedLayer):
    """Replacement for ``torch.nn.Embedding``: rows are dequantized when they are looked up.

    Members
    -------
    num_embeddings, embedding_dim : int
        Rows N and columns K of the matrix.
    rows : callable or None
        Function that dequantizes rows; None until the layer has a backend.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, matrix: str = "", depth: int = 3,
                 stored: bool = True, layout: Layout = TILES):
        super().__init__((num_embeddings, embedding_dim), matrix, depth, stored, layout)
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.rows: Rows | None = None

    def forward(self, ids: Tensor) -> Tensor:
        """Look up rows, int (...); return float (..., K)."""
        if self.rows is None:
            raise RuntimeError(_NOT_LOADED)
        found = torch.from_numpy(self.rows(ids.reshape(-1).numpy(force=True)))
        return found.to(ids.device, self.dtype).reshape(*ids.shape, self.embedding_dim)

    def extra_repr(self) -> str:
        """Return the text that ``print(model)`` shows for this layer."""
        return f"{self.num_embeddings}, {self.embedding_dim}"
