"""Linear and embedding layers with packed weights."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from tritstream.host.model.backends import Product

__all__ = ["TritEmbedding", "TritLinear"]

#: Function from row numbers of a matrix, int64 (T,), to float32 (T, K).
Rows = Callable[[np.ndarray], np.ndarray]

_NOT_LOADED = "this layer has no matrix: load the model by tritstream.host.model.load"


class TritLinear(nn.Module):
    """Replacement for ``torch.nn.Linear``: a backend computes the product, then the bias is added.

    For inference only. The bias is a parameter as usual, the weights are not.

    Members
    -------
    in_features, out_features : int
        Columns K and rows N of the matrix.
    matrix : str
        Name of the matrix in the checkpoint.
    product : tritstream.host.model.backends.Product or None
        Product with the matrix; None until :func:`.load_model` has read the matrix.
    bias : torch.nn.Parameter or None
        Values (N,) that are added to each result.
    dtype : torch.dtype
        Dtype of the replaced weights.
    """

    bias: nn.Parameter | None

    def __init__(self, in_features: int, out_features: int, bias: bool = True, matrix: str = ""):
        super().__init__()
        self.in_features, self.out_features, self.matrix = in_features, out_features, matrix
        self.dtype = torch.float32
        self.product: Product | None = None
        self.register_parameter("bias", nn.Parameter(torch.empty(out_features)) if bias else None)

    @property
    def weight(self) -> Tensor:
        """Empty tensor (0,), because some models read the dtype of a weight before a product."""
        return torch.empty(0, dtype=self.dtype)

    def forward(self, x: Tensor) -> Tensor:
        """Multiply float (..., K); return float (..., N)."""
        if self.product is None:
            raise RuntimeError(_NOT_LOADED)
        rows = self.product(x.detach().reshape(-1, self.in_features))
        rows = rows.to(x.dtype).reshape(*x.shape[:-1], self.out_features)
        return rows if self.bias is None else rows + self.bias

    def extra_repr(self) -> str:
        """Return the text that ``print(model)`` shows for this layer."""
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class TritEmbedding(nn.Module):
    """Replacement for ``torch.nn.Embedding``: rows are dequantized when they are looked up.

    Members
    -------
    num_embeddings, embedding_dim : int
        Rows N and columns K of the matrix.
    matrix : str
        Name of the matrix in the checkpoint.
    rows : callable or None
        Function that dequantizes rows; None until :func:`.load_model` has read the matrix.
    dtype : torch.dtype
        Dtype of the results.
    """

    def __init__(self, num_embeddings: int, embedding_dim: int, matrix: str = ""):
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        self.matrix = matrix
        self.rows: Rows | None = None
        self.dtype = torch.float32

    def forward(self, ids: Tensor) -> Tensor:
        """Look up rows, int (...); return float (..., K)."""
        if self.rows is None:
            raise RuntimeError(_NOT_LOADED)
        found = torch.from_numpy(self.rows(ids.reshape(-1).numpy()))
        return found.to(self.dtype).reshape(*ids.shape, self.embedding_dim)

    def extra_repr(self) -> str:
        """Return the text that ``print(model)`` shows for this layer."""
        return f"{self.num_embeddings}, {self.embedding_dim}"
