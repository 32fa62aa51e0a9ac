"""From volume to image: peak, dynamic range, mask, gradients, file."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
import torch

from radarbook.errors import InputError
from radarbook.radar.image import image_from_volume, load_image, save_image
from radarbook.radar.imaging import Grid


@pytest.fixture
def grid():
    return Grid.regular(0.02, 5, 0.28, 0.34, 13)


def _volume(grid, depths, amplitude):
    """Gaussian peaks along depth: their logarithm is a parabola, so the refined peak is exact."""
    z = grid.z[:, None, None]
    return amplitude * torch.exp(-((z - depths) ** 2) / (2 * 0.006**2)).to(torch.complex128)


def test_peak_depth_and_amplitude(grid):
    generator = torch.Generator().manual_seed(0)
    depths = 0.29 + 0.04 * torch.rand(5, 5, generator=generator, dtype=torch.float64)
    amplitude = 10 ** (-torch.arange(25, dtype=torch.float64).reshape(5, 5) / 20)
    image = image_from_volume(_volume(grid, depths, amplitude), grid, -20.5)
    wanted = -torch.arange(25, dtype=torch.float64).reshape(5, 5)
    np.testing.assert_allclose(image.depth[0], depths, atol=1e-9)
    np.testing.assert_allclose(image.amplitude_db[0], wanted.clamp(min=-20.5), atol=1e-6)
    assert torch.equal(image.mask[0], wanted > -20.5)
    assert torch.equal(image.x, grid.x)


def test_peak_at_the_rim_is_the_rim(grid):
    depths = torch.full((5, 5), 0.20, dtype=torch.float64)
    image = image_from_volume(_volume(grid, depths, 1.0), grid)
    assert (image.depth == grid.z[0]).all()


def test_own_range_for_each_image_of_a_batch(grid):
    depths = torch.full((5, 5), 0.3, dtype=torch.float64)
    amplitude = 10 ** (-torch.arange(25, dtype=torch.float64).reshape(5, 5) / 20)
    batch = torch.stack([_volume(grid, depths, amplitude), 7 * _volume(grid, depths, amplitude)])
    image = image_from_volume(batch, grid, torch.tensor([-10.5, -15.5]))
    # Relative to each image's own maximum, so the factor of 7 is gone.
    assert image.mask.sum((1, 2)).tolist() == [11, 16]
    assert image.amplitude_db.amin((1, 2)).tolist() == [-10.5, -15.5]


def test_gradients(grid):
    depths = torch.full((5, 5), 0.301, dtype=torch.float64)
    generator = torch.Generator().manual_seed(1)
    amplitude = torch.rand(5, 5, generator=generator, dtype=torch.float64) + 0.5
    volume = _volume(grid, depths, amplitude)
    level = torch.tensor([-8.0], dtype=torch.float64)

    def both(real, imaginary, level):
        image = image_from_volume(torch.complex(real, imaginary), grid, level)
        return image.amplitude_db, image.depth

    real = volume.real.clone().requires_grad_()
    imaginary = (0.1 * volume.real).requires_grad_()
    assert torch.autograd.gradcheck(both, (real, imaginary, level.requires_grad_()), atol=1e-4)


def test_sharp_depth(grid):
    """Depth is the sharp volume's peak, as far as it lies near the other's; a stronger one
    elsewhere (a side lobe) is not followed. Amplitude and mask are not touched."""
    generator = torch.Generator().manual_seed(4)
    rough = 0.295 + 0.03 * torch.rand(5, 5, generator=generator, dtype=torch.float64)
    true = rough + 0.002
    amplitude = torch.rand(5, 5, generator=generator, dtype=torch.float64) + 0.5
    volume = _volume(grid, rough, amplitude)
    lobe = _volume(grid, true + torch.where(true < 0.31, 0.025, -0.025), 3 * amplitude)
    # Narrow enough that the lobe leaves nothing at the true peak.
    z = grid.z[:, None, None]
    lobe = torch.where((z - true).abs() < 0.0125, 0, lobe)
    sharp = _volume(grid, true, amplitude) + lobe
    plain = image_from_volume(volume, grid, -10.0)
    image = image_from_volume(volume, grid, -10.0, sharp=sharp)
    np.testing.assert_allclose(plain.depth[0], rough, atol=1e-9)
    np.testing.assert_allclose(image.depth[0], true, atol=1e-9)
    assert torch.equal(image.amplitude_db, plain.amplitude_db)
    assert torch.equal(image.mask, plain.mask)
    inputs = [v.real.clone().requires_grad_() for v in (volume, sharp)]

    def depth(volume, sharp):
        return image_from_volume(volume, grid, sharp=sharp).depth

    assert torch.autograd.gradcheck(depth, inputs, atol=1e-4)
    with pytest.raises(InputError, match="sharp"):
        image_from_volume(volume, grid, sharp=sharp[1:])


def test_empty_volume_is_finite(grid):
    image = image_from_volume(torch.zeros(grid.shape, dtype=torch.complex64), grid)
    assert torch.isfinite(image.amplitude_db).all()
    assert torch.isfinite(image.depth).all()


def test_file(tmp_path, grid):
    depths = torch.full((5, 5), 0.3, dtype=torch.float64)
    image = image_from_volume(_volume(grid, depths, 1.0), grid, -30.0)
    path = tmp_path / "image.h5"
    save_image(path, image)
    with h5py.File(path) as file:
        assert file["amplitude_db"].shape == (5, 5)
        assert {name: file[name].attrs["units"] for name in file} == {
            "amplitude_db": "dB", "depth": "m", "mask": "1", "x": "m", "y": "m",
        }  # fmt: skip
    back = load_image(path)
    for name in ("amplitude_db", "depth", "mask", "x", "y", "dynamic_range_db"):
        assert torch.equal(getattr(back, name), getattr(image, name)), name


def test_bad_files(tmp_path, grid):
    with pytest.raises(InputError, match="no such file"):
        load_image(tmp_path / "absent.h5")
    (tmp_path / "text.h5").write_text("hello")
    with pytest.raises(InputError, match="expected an HDF5 radar image"):
        load_image(tmp_path / "text.h5")
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["depth"] = np.zeros((3, 3))
    with pytest.raises(InputError, match="expected an HDF5 radar image"):
        load_image(tmp_path / "other.h5")
    with pytest.raises(InputError, match="volume"):
        image_from_volume(torch.zeros(2, 2, 2), grid)
