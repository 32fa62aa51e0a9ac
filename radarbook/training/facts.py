"""What training may know of the face model beyond its images: mirror, lengths, pivot."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from radarbook.faces.model import MorphableModel
from radarbook.faces.pose import MM, pivot_and_origin

#: A model counts as symmetric if mirroring a face and writing it in the model's own modes misses
#: less than this share of its displacement from the mean face (root mean square). Of a face 5 mm
#: from the mean that is a quarter of a millimetre, a tenth of what the networks miss.
MIRROR_TOLERANCE = 0.05


@dataclass(frozen=True)
class ModelFacts:
    """What a face model says about its coefficients.

    Attributes
    ----------
    fingerprint : str
        The model's.
    gram : Tensor (K, K)
        Mean product of the displacements of two coefficients' modes over the vertices, shape
        before expression, over the sum of its diagonal: ``e @ gram @ e`` is the mean squared
        vertex distance that coefficient errors ``e`` make, in units of a random face's from the
        mean face.
    mirror : Tensor (K, K) or None
        Coefficients of the mirrored face are ``mirror @ coefficients``; None if the model is not
        symmetric.
    pivot : Tensor (2,)
        Where the point that heads turn about lies in the image of an untranslated frontal face,
        radar x and y, metres.
    """

    fingerprint: str
    gram: Tensor
    mirror: Tensor | None
    pivot: Tensor

    @classmethod
    def of(cls, model: MorphableModel) -> ModelFacts:
        """Computed from a model (a second for 15,000 vertices).

        Examples
        --------
        >>> import radarbook as rb
        >>> ModelFacts.of(rb.load_model()).mirror is not None
        True
        """
        modes = torch.cat([model.shape_modes, model.expression_modes]).double().cpu()
        flat = modes.flatten(1)
        gram = flat @ flat.T
        pivot, origin = pivot_and_origin(model)
        away = (pivot - origin)[:2].double().cpu() * torch.tensor([-MM, MM], dtype=torch.float64)
        return cls(
            model.fingerprint,
            (gram / gram.trace()).float(),
            mirror_matrix(model),
            away.float(),
        )

    def vertex_loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Mean squared vertex distance of coefficients (B, K) in the units of :attr:`gram`.

        A scalar; 1 for the mean face on average. Differentiable.
        """
        error = predicted - target
        return ((error @ self.gram.to(error)) * error).sum(dim=1).mean()

    def to(self, device: torch.device | str) -> ModelFacts:
        """The same facts on another device."""
        mirror = None if self.mirror is None else self.mirror.to(device)
        return ModelFacts(self.fingerprint, self.gram.to(device), mirror, self.pivot.to(device))


def mirror_matrix(model: MorphableModel, tolerance: float = MIRROR_TOLERANCE) -> Tensor | None:
    """(K, K) float32: what mirroring at the middle plane does to shape and expression coefficients.

    A vertex's partner is the one nearest its mirror image on the mean face. Each mode, mirrored,
    is written in the modes of its own set by least squares. None if what that misses is more than
    ``tolerance`` of a random face's displacement, or the mean face itself is not symmetric to a
    twentieth of it: mirrored images of such a model are not images of its faces.
    """
    flip = torch.tensor([-1.0, 1.0, 1.0], dtype=torch.float64)
    mean = model.mean.double().cpu()
    sets = [part.double().cpu() for part in (model.shape_modes, model.expression_modes)]
    power = sum(float(part.square().sum()) for part in sets) / len(mean)
    apart, partner = cKDTree(mean.numpy()).query((mean * flip).numpy())
    if float((torch.as_tensor(apart) ** 2).mean()) > (0.05**2) * power:
        return None
    missed = 0.0
    blocks = []
    for part in sets:
        if not len(part):  # a model without expressions
            continue
        mirrored = (part * flip)[:, torch.as_tensor(partner)].flatten(1).T
        block = torch.linalg.lstsq(part.flatten(1).T, mirrored).solution
        missed += float((part.flatten(1).T @ block - mirrored).square().sum()) / len(mean)
        blocks.append(block)
    if missed > tolerance**2 * power:
        return None
    return torch.block_diag(*blocks).float()
