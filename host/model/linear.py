"""Layers whose weights are packed: linear, and embeddings."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from tritstream.host.model.backends import Product

__all__ = ["TritEmbedding", "TritLinear"]

#: Rows of a matrix, int64 (T,), to float32 (T, K).
Rows = Callable[[np.ndarray], np.ndarray]


class TritLinear(nn.Module):
    """Stands for a ``torch.nn.Linear``; the products come from a backend, the bias is added after.

    Inference only. The bias is a parameter as ever; the weights are not.

    Members
    -------
    in_features, out_features : int
        Columns K and rows N of the matrix.
    matrix : str
        Name of the matrix in the checkpoint.
    product : tritstream.host.model.backends.Product or None
        What multiplies; None until :func:`.load_model` has read the matrix.
    dtype : torch.dtype
        Of the weights that it stands for.
    """

    def __init__(self, in_features: int, out_features: int, bias: bool = True, matrix: str = ""):
        super().__init__()
        self.in_features, self.out_features, self.matrix = in_features, out_features, matrix
        self.dtype = torch.float32
        self.product: Product | None = None
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features)) if bias else None)

    @property
    def weight(self) -> Tensor:
        """No value, (0,): some models ask for the dtype of a weight before they multiply."""
        return torch.empty(0, dtype=self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply: float (..., K) to float (..., N)."""
        if self.product is None:
            raise RuntimeError("this layer has no matrix: load the model by tritstream.host.model.load")
        rows = self.product(x.detach().reshape(-1, self.in_features))
        rows = rows.to(x.dtype).reshape(*x.shape[:-1], self.out_features)
        return rows if self.bias is None else rows + self.bias

    def extra_repr(self) -> str:
        """What ``print(model)`` shows of it."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class TritEmbedding(nn.Module):
    """Stands for a ``torch.nn.Embedding``; the rows that are looked up are dequantized.

    Members
    -------
    num_embeddings, embedding_dim : int
        Rows N and columns K of the matrix.
    matrix : str
        Name of the matrix in the checkpoint.
    rows : callable or None
        Gives rows; None until :func:`tritstream.host.model.load.load_model` has read the matrix.
    dtype : torch.dtype
        Of what comes out.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, matrix: str = ""):
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.matrix = matrix
        self.rows: Rows | None = None
        self.dtype = torch.float32

    def forward(self, ids: Tensor) -> Tensor:
        """Look up: int (...) to float (..., K)."""
        if self.rows is None:
            raise RuntimeError("this layer has no matrix: load the model by tritstream.host.model.load")
        found = torch.from_numpy(self.rows(ids.reshape(-1).numpy()))
        return found.to(self.dtype).reshape(*ids.shape, self.embedding_dim)

    def extra_repr(self) -> str:
        """What ``print(model)`` shows of it."""
        return f"{self.num_embeddings}, {self.embedding_dim}"
