"""What one face model leaves over of another's faces, as a prior of smooth displacements.

Samples faces of the model ``--faces``, fits the model ``--model`` to each in vertex space (rigid
motion and all modes under their prior, points to tangent planes), and estimates the deviation of
each length scale of :class:`radarbook.faces.displacements.Displacements` from products of what is
left at pairs of points:

    python -m benchmarks.displacements --model ict_face.h5 --faces procedural
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from scipy.optimize import nnls
from scipy.spatial import cKDTree
from torch import Tensor

from radarbook.faces.displacements import Displacements, vertex_normals
from radarbook.faces.load import held_modes, load_model
from radarbook.faces.model import MorphableModel
from radarbook.seeds import torch_stream

#: Deviation of a point's distance from a plane, mm, against which the prior of modes is weighed.
NOISE = 0.5
#: Rounds of correspondences; farthest correspondence, mm, and most points that pairs are made of.
ROUNDS, FAR, POINTS = 15, 12.0, 800
#: Margin of a model's rim, mm: correspondences there are of other parts of the surface.
MARGIN = 8.0


def whole(spec: str) -> MorphableModel:
    """A model with all its modes."""
    return load_model(spec, *held_modes(spec)).to(dtype=torch.float64)


def rim(points: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """(R, 3) vertices of edges of one triangle."""
    edges = np.sort(triangles[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2), axis=1)
    found, count = np.unique(edges, axis=0, return_counts=True)
    return points[np.unique(found[count == 1])]


def left_over(model: MorphableModel, target: Tensor, triangles: Tensor) -> tuple[np.ndarray, ...]:
    """(M,) mm left along the normals, and the points (M, 3) and normals (M, 3) of the fitted
    face, away from both rims."""
    theirs, normals = target.numpy(), vertex_normals(target, triangles).numpy()
    tree, edge = cKDTree(theirs), cKDTree(rim(theirs, triangles.numpy()))
    own = cKDTree(rim(model.mean.numpy(), model.triangles.numpy()))
    inner = own.query(model.mean.numpy())[0] > MARGIN
    modes = torch.cat([model.shape_modes, model.expression_modes]).numpy()
    coefficients = np.zeros(len(modes))
    turn, move = np.eye(3), theirs.mean(0) - model.mean.numpy().mean(0)
    for _ in range(ROUNDS):
        face = model.mean.numpy() + np.tensordot(coefficients, modes, 1)
        here = face @ turn.T + move
        distance, nearest = tree.query(here)
        mine = vertex_normals(torch.from_numpy(here), model.triangles).numpy()
        n = normals[nearest]
        fit = inner & (distance < FAR) & ((mine * n).sum(1) > 0.7)
        fit &= edge.query(here)[0] > MARGIN
        gap = ((theirs[nearest] - here) * n).sum(1)
        centre = here.mean(0)
        columns = np.concatenate(
            [n, np.cross(here - centre, n), np.einsum("kvx,yx,vy->vk", modes, turn, n)], axis=1
        )[fit]
        # Points of one cell of the surface are no independent measurements.
        prior = np.diag(np.r_[np.zeros(6), np.ones(len(modes))]) * NOISE**2 * fit.sum() / POINTS
        right = columns.T @ gap[fit]
        right[6:] -= prior[6:, 6:] @ coefficients
        step = np.linalg.solve(columns.T @ columns + prior, right)
        x, y, z = step[3:6]
        cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        left, _, right_ = np.linalg.svd(np.eye(3) + cross)
        small = left @ right_
        turn, move = small @ turn, small @ (move - centre) + centre + step[:3]
        coefficients += step[6:]
    return gap[fit], here[fit], mine[fit]


def deviations(
    found: list[tuple[np.ndarray, ...]], lengths: tuple[float, ...]
) -> tuple[np.ndarray, float]:
    """(S,) mm of the scales, by least squares on products of pairs, and the root mean square left
    over."""
    rows, products, squares = [], [], []
    for n, (gap, points, normals) in enumerate(found):
        few = torch.randperm(len(gap), generator=torch_stream(n, "displacements"))[:POINTS].numpy()
        gap, points, normals = gap[few], points[few], normals[few]
        pairs = np.triu_indices(len(few), 1)
        each = [
            Displacements(lengths=(length,), deviations=(1.0,)).kernel(
                points, normals, points, normals
            )[pairs]
            for length in lengths
        ]
        rows.append(np.stack(each, 1))
        products.append(np.outer(gap, gap)[pairs])
        squares.append(np.mean(gap**2))
    variances = nnls(np.concatenate(rows), np.concatenate(products))[0]
    return np.sqrt(variances), float(np.sqrt(np.mean(squares)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="procedural", help="that is fitted")
    parser.add_argument("--faces", required=True, help="model that faces are sampled from")
    parser.add_argument("--count", type=int, default=6)
    options = parser.parse_args()
    model, other = whole(options.model), whole(options.faces)
    found = []
    for n in range(options.count):
        stream = torch_stream(n, "displacements/faces")
        shape = torch.randn(1, other.n_shape, generator=stream, dtype=torch.float64)
        expression = torch.zeros(1, other.n_expression, dtype=torch.float64)
        target = other.vertices(shape, expression)[0]
        found.append(left_over(model, target, other.triangles))
        print(f"face {n}: {np.sqrt(np.mean(found[-1][0] ** 2)):.2f} mm left at {len(found[-1][0])}")
    for lengths in ((40.0, 20.0, 10.0), (40.0, 16.0, 8.0), (25.0, 10.0)):
        sigma, rms = deviations(found, lengths)
        print(f"lengths {lengths} mm: deviations {np.round(sigma, 2)} mm; {rms:.2f} mm in all")


if __name__ == "__main__":
    main()
