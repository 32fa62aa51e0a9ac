"""Cosine similarity of coefficients: does a prediction resemble its own face more than others?"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def cosine_similarity(predicted: Tensor, truth: Tensor) -> Tensor:
    """(B, C) cosines between coefficients (B, K) and (C, K), about the mean face (zero).

    Examples
    --------
    >>> import torch
    >>> cosine_similarity(torch.eye(2), torch.tensor([[2.0, 0.0]])).tolist()
    [[1.0], [0.0]]
    """
    return F.normalize(predicted, dim=1) @ F.normalize(truth, dim=1).T


def diagonal_contrast(similarity: Tensor) -> float:
    """Mean of the diagonal minus mean of the rest of a (B, B) matrix: 1 perfect, 0 chance.

    Examples
    --------
    >>> import torch
    >>> diagonal_contrast(torch.eye(3))
    1.0
    """
    count = len(similarity)
    own = similarity.diagonal().sum()
    others = (similarity.sum() - own) / (count * (count - 1))
    return float(own / count - others)


def retrieval_rate(similarity: Tensor) -> float:
    """Share of predictions (rows) whose most similar truth (column) is their own; chance is 1/B.

    Examples
    --------
    >>> import torch
    >>> retrieval_rate(torch.eye(3))
    1.0
    """
    best = similarity.argmax(dim=1).cpu()
    return float((best == best.new_tensor(range(len(best)))).float().mean())
