"""Statistics of prediction quality, as in llama.cpp's perplexity tool.

A score belongs to one token of a text. It is the negative log-likelihood of the token and, against
a base model, the Kullback-Leibler divergence of the distribution at its position. Every ± is one
standard error and treats tokens as independent. Unlike in the tool, log-probabilities of the base
model are neither rounded to 16 bits nor truncated.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tritstream.golden.row_chunks import row_chunks

__all__ = ["Comparison", "Estimate", "Prediction", "bits_per_byte", "compare", "kl_divergence",
           "mean", "perplexity"]

_KL_PERCENTS = (100, 99.9, 99, 95, 90, 50, 10, 5, 1, 0.1, 0)
_DELTA_PERCENTS = (100, 99.9, 99, 95, 90, 75, 50, 25, 10, 5, 1, 0.1, 0)


class Prediction:
    """Distributions of the next token at T positions of a text.

    Parameters
    ----------
    logits : float (T, V)
        Logits for a vocabulary of V tokens. They are not copied; computations use float64, a few
        rows at a time.
    """

    def __init__(self, logits: np.ndarray):
        self.logits = logits
        self._tops = logits.max(axis=1, keepdims=True).astype(np.float64)
        self._log_sums = np.concatenate([
            np.log(np.exp(shifted).sum(axis=1, keepdims=True)) for shifted in self._shifted()])

    def nll(self, targets: np.ndarray) -> np.ndarray:
        """Return the negative log-likelihoods of tokens, int (T,), in nats: float64 (T,)."""
        actual = self.logits[np.arange(len(targets)), targets]
        return self._log_sums[:, 0] + (self._tops[:, 0] - actual)

    def top(self) -> np.ndarray:
        """Return the most likely token at each position, the first one of equals: int (T,)."""
        return self.logits.argmax(axis=1)

    def log_probabilities(self) -> Iterator[np.ndarray]:
        """Yield the log-probabilities in chunks of t positions: float64 (t, V)."""
        for rows, shifted in zip(self._pieces(), self._shifted(), strict=True):
            yield shifted - self._log_sums[rows]

    def _shifted(self) -> Iterator[np.ndarray]:
        """Yield the logits less the maximum of their row, so that no exponential exceeds 1."""
        for rows in self._pieces():
            yield self.logits[rows] - self._tops[rows]

    def _pieces(self) -> Iterator[slice]:
        return row_chunks(*self.logits.shape)


def kl_divergence(base: Prediction, other: Prediction) -> np.ndarray:
    """Return the Kullback-Leibler divergence of ``other`` from ``base`` in nats: float64 (T,).

    Raises :class:`ValueError` if the shapes (T, V) of the logits differ.
    """
    if base.logits.shape != other.logits.shape:
        raise ValueError(f"predictions must be of one shape, not {base.logits.shape} and "
                         f"{other.logits.shape}")
    pairs = zip(base.log_probabilities(), other.log_probabilities(), strict=True)
    return np.concatenate([_divergence(wanted, got) for wanted, got in pairs])


def _divergence(wanted: np.ndarray, got: np.ndarray) -> np.ndarray:
    share = np.exp(wanted)
    # A token without probability adds 0, even if both logarithms are minus infinity.
    lost = np.subtract(wanted, got, out=np.zeros_like(wanted), where=share > 0)
    return (share * lost).sum(axis=1)


@dataclass(frozen=True)
class Estimate:
    """A figure and its standard error."""

    value: float
    error: float


def mean(values: np.ndarray) -> Estimate:
    """Return the mean of at least two values."""
    return Estimate(float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size)))


def perplexity(nll: np.ndarray) -> Estimate:
    """Return the exponential of the mean negative log-likelihood."""
    return _exponential(mean(nll))


def bits_per_byte(nll: np.ndarray, size: int) -> Estimate:
    """Return the bits per byte of text, for scored tokens that represent ``size`` bytes."""
    nats, scale = mean(nll), nll.size / (math.log(2) * size)
    return Estimate(nats.value * scale, nats.error * scale)


@dataclass(frozen=True)
class Comparison:
    """Comparison of a model with its base model on the same tokens.

    Members
    -------
    log_ratio, ratio : Estimate
        ln(PPL / PPL of the base), and its exponential. The error is paired: it includes the
        covariance of the two models.
    kl : Estimate
        Mean divergence in nats.
    kl_percentiles : dict
        Percentiles of the divergence, by percent.
    delta_p, delta_p_rms : Estimate
        Change of the probability of the actual token: mean, and root of the mean square.
    delta_p_percentiles : dict
        Percentiles of the change of this probability, by percent.
    same_top : Estimate
        Share of tokens for which both models have the same most likely token, 0..1.
    """

    log_ratio:           Estimate
    ratio:               Estimate
    kl:                  Estimate
    kl_percentiles:      dict[str, float]
    delta_p:             Estimate
    delta_p_rms:         Estimate
    delta_p_percentiles: dict[str, float]
    same_top:            Estimate


def compare(
    nll: np.ndarray, nll_base: np.ndarray, kl: np.ndarray, same_top: np.ndarray,
) -> Comparison:
    """Compare two models by their scores for the same T tokens, each float64 or bool (T,)."""
    # Var(a) + Var(b) - 2 Cov(a, b), written as the variance of the difference.
    log_ratio = mean(nll - nll_base)
    delta_p = np.exp(-nll) - np.exp(-nll_base)
    return Comparison(
        log_ratio=log_ratio, ratio=_exponential(log_ratio),
        kl=mean(kl), kl_percentiles=_percentiles(kl, _KL_PERCENTS),
        delta_p=mean(delta_p), delta_p_rms=_root(mean(np.square(delta_p))),
        delta_p_percentiles=_percentiles(delta_p, _DELTA_PERCENTS),
        same_top=mean(same_top.astype(np.float64)),
    )


def _exponential(estimate: Estimate) -> Estimate:
    value = float(np.exp(estimate.value))
    return Estimate(value, value * estimate.error)


def _root(estimate: Estimate) -> Estimate:
    value = float(np.sqrt(estimate.value))
    return Estimate(value, estimate.error / (2 * value) if value else 0.0)


def _percentiles(values: np.ndarray, percents: Sequence[float]) -> dict[str, float]:
    found = np.percentile(values, percents)
    return {f"{percent:g}": float(value) for percent, value in zip(percents, found, strict=True)}
