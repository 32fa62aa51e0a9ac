import os
import pickle

import h5py
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from radarbook.datasets.distribution import SPLITS, Splits, random_parameters
from radarbook.datasets.storage import FaceDataset, damage, shard_bytes
from radarbook.datasets.synthetic import generate
from radarbook.errors import InputError
from tests.datasets.fake_renderer import FakeRenderer

SPLIT = Splits(test=7, validation=5, train=28)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "set"
    generate(path, FakeRenderer(), None, 3, splits=SPLIT, shard_size=6, progress=False)
    return path


def rendered(samples, level):
    """What the reader must return, without a file between: drawn, rendered, clipped."""
    drawn = random_parameters(samples, 3)
    rendering = drawn.rendering.clone()
    rendering[:, 0] = level
    return drawn.replace(rendering=rendering), FakeRenderer().render(
        drawn.replace(rendering=rendering)
    )


@pytest.mark.parametrize("memory", [None, "cpu"])
def test_reads_what_was_rendered(folder, memory):
    dataset = FaceDataset(folder, "validation", memory=memory)
    assert len(dataset) == 5
    assert dataset.samples.tolist() == [7, 8, 9, 10, 11]
    rows = [4, 0, 3]
    parameters, image = dataset.batch(rows)
    wanted, picture = rendered([11, 7, 10], -20.0)
    for name in ("shape", "expression", "translation", "rotation", "rendering"):
        assert torch.equal(getattr(parameters, name), getattr(wanted, name))
    # float16: half a unit in the last place of -60..0 dB is 1/64 dB, of ±0.125 m from the
    # reference 2^-15 m.
    assert float((image.amplitude_db - picture.amplitude_db).abs().max()) <= 1 / 64
    assert bool(((image.mask == picture.mask) | (picture.amplitude_db < -20 + 1 / 64)).all())
    off = (image.depth - picture.depth)[image.mask & picture.mask]
    assert float(off.abs().max()) <= 2**-15 + 1e-7  # 1e-7 m: float32 of the sum
    torch.testing.assert_close(image.x, picture.x)
    assert image.amplitude_db.dtype == image.depth.dtype == torch.float32


def test_evaluation_and_training_dynamic_ranges(folder):
    assert FaceDataset(folder, "test").batch([0])[1].dynamic_range_db.item() == -20
    train = FaceDataset(folder, "train")
    first, image = train.batch(range(28))
    second, _ = train.batch(range(28))
    assert torch.equal(image.dynamic_range_db, first.dynamic_range_db)
    assert bool((image.amplitude_db.amin((1, 2)) == image.dynamic_range_db).all())
    assert not torch.equal(first.dynamic_range_db, second.dynamic_range_db)  # drawn anew
    assert float(first.dynamic_range_db.min()) >= -30
    assert float(first.dynamic_range_db.max()) <= -15
    assert float(first.dynamic_range_db.max() - first.dynamic_range_db.min()) > 8
    # Drawn from a given generator, the same draw gives the same batch.
    again = [
        train.batch([3, 1], generator=torch.Generator().manual_seed(5))[1].amplitude_db
        for _ in range(2)
    ]
    assert torch.equal(*again)


def test_clips_as_the_image_container_does(folder):
    wide = FaceDataset(folder, "train", dynamic_range=-60).batch(range(28))[1]
    for level in (-20.0, -31.5):
        _, image = FaceDataset(folder, "train", dynamic_range=level).batch(range(28))
        other = wide.with_dynamic_range(level)
        assert torch.equal(image.amplitude_db, other.amplitude_db)
        assert torch.equal(image.mask, other.mask)
        assert torch.equal(image.depth, other.depth)
    with pytest.raises(InputError, match="down to -60"):
        FaceDataset(folder, dynamic_range=-80)


def test_any_index_is_a_batch(folder):
    dataset = FaceDataset(folder)
    assert len(dataset) == 40
    whole = dataset.batch(range(40))[1].depth
    for index in (5, -1, slice(3, 17, 4), [9, 2], torch.tensor([9, 2]), np.array([39])):
        wanted = whole[index] if not isinstance(index, int) else whole[index][None]
        assert torch.equal(dataset[index][1].depth, wanted)
    with pytest.raises(IndexError):
        dataset[40]


def _loader(dataset, **options):
    return DataLoader(
        dataset, batch_size=9, shuffle=False, collate_fn=FaceDataset.collate, **options
    )


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_works_in_loader_workers(folder, method):
    dataset = FaceDataset(folder, "train", dynamic_range=-25.0)
    dataset.batch([0])  # opens a map before the fork
    plain = [image.amplitude_db for _, image in _loader(dataset)]
    workers = 2 if method == "fork" else 1
    loader = _loader(dataset, num_workers=workers, multiprocessing_context=method)
    for there, here in zip(loader, plain, strict=True):
        assert torch.equal(there[1].amplitude_db, here)


def test_works_after_fork(folder):
    dataset = FaceDataset(folder, "train", dynamic_range=-20.0)
    wanted = dataset.batch([20, 3])[1].depth.numpy().tobytes()
    child = os.fork()
    if child == 0:
        same = dataset.batch([20, 3])[1].depth.numpy().tobytes() == wanted
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_pickles_small_and_reads_on_the_other_side(folder):
    dataset = FaceDataset(folder, "test")
    dataset.batch(range(7))
    data = pickle.dumps(dataset)
    assert len(data) < 40_000  # settings and parameters; the images are 7 kB here, mapped anew
    assert pickle.loads(data)._open == {}
    assert torch.equal(pickle.loads(data).batch([2])[1].depth, dataset.batch([2])[1].depth)


def test_opens_as_one_dataset_in_any_hdf5_program(folder):
    dataset = FaceDataset(folder, dynamic_range=-60.0)
    parameters, image = dataset.batch(range(40))
    with h5py.File(folder / "index.h5") as file:
        assert file["amplitude_db"].shape == (40, 16, 16)
        assert np.array_equal(file["amplitude_db"][:].astype(np.float32), image.amplitude_db)
        assert np.array_equal(file["rotation"][:], dataset.parameters.rotation)
        assert file["sample"][:].tolist() == list(range(40))
        assert file["split"][:].tolist() == [0] * 7 + [1] * 5 + [2] * 28
        assert "reference" in file["depth"].attrs["description"]
        assert file.attrs["fingerprint"] == dataset.fingerprint
    assert len(parameters) == 40


def test_the_folder_can_be_moved(folder, tmp_path):
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for path in folder.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    with h5py.File(moved / "index.h5") as file:
        assert not np.isnan(file["depth"][:]).any()
        assert file["shape"][:].any()
    assert len(FaceDataset(moved)) == 40


def test_an_empty_split_is_empty(tmp_path):
    splits = Splits(test=0, validation=0, train=3)
    generate(tmp_path, FakeRenderer(), None, 0, splits=splits, progress=False)
    assert len(FaceDataset(tmp_path, "test")) == 0
    assert len(FaceDataset(tmp_path, "train").batch([])[0]) == 0


def test_every_flipped_bit_is_seen_or_harmless(folder, tmp_path):
    source = folder / "shard-00001.h5"
    data = source.read_bytes()
    with h5py.File(source) as file:
        about = {"fingerprint": file.attrs["fingerprint"], "shard": 1}
        names = list(file)

    def content(path):
        with h5py.File(path) as file:
            return [file[n][()].tobytes() for n in names], dict(file.attrs)

    whole = content(source)
    assert damage(source, about) is None
    random = np.random.default_rng(0)
    path = tmp_path / "shard-00001.h5"
    seen = 0
    for place in random.integers(0, len(data), 300):
        path.write_bytes(
            data[:place] + bytes([data[place] ^ (1 << random.integers(8))]) + data[place + 1 :]
        )
        if damage(path, about):
            seen += 1
        else:  # a byte that HDF5 does not use, or only in what is not content
            assert content(path) == whole
    assert seen > 100


@pytest.mark.parametrize("length", [0, 100, 5000])
def test_truncated_shards_are_seen(folder, tmp_path, length):
    path = tmp_path / "shard-00001.h5"
    path.write_bytes((folder / path.name).read_bytes()[:length])
    assert "cannot be read" in damage(path, {})


def test_reading_names_the_shard_of_another_dataset(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = tmp_path / "shard-00002.h5"
    with h5py.File(shard, "r+") as file:
        file.attrs["checksum"] = "of another"
    with pytest.raises(InputError, match=r"shard-00002.h5: damaged.*--repair"):
        FaceDataset(tmp_path)
    shard.unlink()
    with pytest.raises(InputError, match=r"shard-00002.h5"):
        FaceDataset(tmp_path)
    (tmp_path / "index.h5").unlink()
    with pytest.raises(InputError, match=r"no index.h5 \(run 'radarbook generate' again"):
        FaceDataset(tmp_path)


def test_a_shards_bytes_follow_from_its_content():
    arrays = {"x": np.arange(4.0), "sample": np.arange(2)}
    again = {name: array.copy() for name, array in arrays.items()}
    assert shard_bytes(arrays, {"a": 1}) == shard_bytes(again, {"a": 1})
    assert shard_bytes(arrays, {"a": 1}) != shard_bytes(arrays, {"a": 2})


def test_splits_are_the_readers(folder):
    sizes = [len(FaceDataset(folder, split)) for split in SPLITS]
    assert sizes == [7, 5, 28]
    with pytest.raises(InputError, match="split"):
        FaceDataset(folder, "training")
