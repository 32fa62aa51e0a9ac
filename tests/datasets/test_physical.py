"""What only real images can show: noise against rounding, faults, the same bits from workers."""

import pytest
import torch

from radarbook.datasets.distribution import Splits
from radarbook.datasets.imperfections import Imperfections
from radarbook.datasets.storage import FaceDataset, encode
from radarbook.datasets.synthetic import generate_from_settings
from radarbook.datasets.workers import measured_signal, physical_renderer, speckle_seeds
from radarbook.errors import InputError
from radarbook.faces.parameters import FaceParameters
from radarbook.profiles import get_profile
from radarbook.radar.image import image_from_volume
from radarbook.radar.imaging import back_project

PROFILE = get_profile("smoke", {"pixels": 24, "depth_planes": 13, "test": 1, "validation": 1})


@pytest.fixture(scope="module")
def renderer():
    return physical_renderer("procedural", PROFILE.model_dump())


def test_float16_rounds_far_below_the_images_own_noise(renderer):
    face = FaceParameters.neutral(1)
    noise = Imperfections(snr_db=20.0)
    images = []
    for draw in range(2):
        with torch.no_grad():
            signal = measured_signal(renderer, face, noise, 0, [draw])
            volume = back_project(signal, renderer.array, renderer.waveform, renderer.grid)
        images.append(image_from_volume(volume, renderer.grid, -60.0))
    seen = (images[0].amplitude_db > -30) & (images[1].amplitude_db > -30)
    assert int(seen.sum()) > 20
    reference = 0.35
    arrays = encode([0], face, images[0], reference)
    back = {
        "amplitude_db": torch.from_numpy(arrays["amplitude_db"]).float(),
        "depth": torch.from_numpy(arrays["depth"]).float() + reference,
    }
    for name, values in back.items():
        exact, again = (getattr(image, name) for image in images)
        rounding = (values - exact)[seen].square().mean().sqrt()
        between_draws = (again - exact)[seen].square().mean().sqrt()
        # A fifth in standard deviation adds 2 % to the noise. 20 dB is a good signal: the
        # instrument's own noise is rarely better.
        assert float(rounding) < 0.2 * float(between_draws), name


def test_imperfections_are_each_samples_own_and_part_of_the_settings(tmp_path):
    noisy = Imperfections(snr_db=10.0, phase=0.1, position=1e-4)
    made = {}
    for name, faults in (("clean", None), ("noisy", noisy), ("again", noisy)):
        report = generate_from_settings(
            tmp_path / name,
            model="procedural",
            profile=PROFILE,
            count=1,
            imperfections=faults,
            progress=False,
        )
        made[name] = FaceDataset(tmp_path / name).batch([0])[1].amplitude_db
        assert report.made == 1
    assert torch.equal(made["noisy"], made["again"])
    difference = (made["noisy"] - made["clean"]).abs().amax((1, 2))
    assert bool((difference > 0.05).all())
    with pytest.raises(InputError, match=r"imperfections.* there, null asked"):
        generate_from_settings(
            tmp_path / "noisy", model="procedural", profile=PROFILE, count=1, progress=False
        )


def test_images_are_those_of_the_renderer_and_splits_those_of_the_profile(tmp_path, renderer):
    profile = PROFILE.model_copy(update={"train": 1})
    generate_from_settings(tmp_path, model="procedural", profile=profile, seed=4, progress=False)
    dataset = FaceDataset(tmp_path)
    parameters, image = dataset.batch([2])
    assert dataset.settings["splits"] == Splits(test=1, validation=1, train=1).model_dump()
    assert dataset.settings["renderer"]["model"] == renderer.model.fingerprint
    with torch.no_grad():
        wanted = renderer.render(parameters, speckle_seeds(4, [2]))
        shared = renderer.render(parameters)
    both = wanted.mask & image.mask
    assert int(both.sum()) > 5
    torch.testing.assert_close(
        image.amplitude_db[both], wanted.amplitude_db[both], atol=1 / 64 + 1e-3, rtol=0
    )
    torch.testing.assert_close(image.depth[both], wanted.depth[both], atol=1e-4, rtol=0)
    # Of no other sample, nor of the renderer's own seed.
    assert float((shared.amplitude_db - wanted.amplitude_db).abs().max()) > 0.1


def test_a_dry_run_and_a_bad_device(tmp_path):
    said = generate_from_settings(
        tmp_path / "set",
        model="procedural",
        profile=PROFILE,
        count=1000,
        workers=2,
        dry_run=True,
    )
    assert not (tmp_path / "set").exists()
    assert said.count == 1000
    assert said.workers == 2
    for device, message in (("cuda:77", "no CUDA device"), ("gpu", "found 'gpu'")):
        if device == "gpu" or not torch.cuda.is_available():
            with pytest.raises(InputError, match=message):
                generate_from_settings(
                    tmp_path / "set", model="procedural", profile=PROFILE, count=1, device=device
                )
