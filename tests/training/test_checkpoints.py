"""Weights files: round trips without pickle, refusals."""

from __future__ import annotations

import pytest
import torch

from radarbook.errors import InputError
from radarbook.networks.autoencoder import Autoencoder
from radarbook.networks.encoder import Encoder
from radarbook.networks.renderer import LearnedRenderer
from radarbook.training import load_autoencoder, load_encoder, load_renderer
from radarbook.training.checkpoints import (
    difference,
    fingerprint,
    load_tensors,
    pack_optimizer,
    read_about,
    save_tensors,
    save_weights,
    unpack_optimizer,
)

ENCODER = Encoder("depth", "small", 3, 2, 32)
RENDERER = LearnedRenderer("small", 3, 2, 32)


@pytest.mark.parametrize(
    ("network", "load"),
    [
        (ENCODER, load_encoder),
        (RENDERER, load_renderer),
        (Autoencoder(ENCODER, RENDERER), load_autoencoder),
    ],
)
def test_networks_come_back_as_they_went(tmp_path, network, load):
    save_weights(tmp_path / "w.safetensors", network, about={"dataset": "toy"})
    back = load(tmp_path / "w.safetensors")
    assert back.config == network.config
    assert not back.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, back.state_dict()[name]), name
    assert read_about(tmp_path / "w.safetensors") == {"dataset": "toy"}


def test_half_precision_halves_the_file(tmp_path):
    save_weights(tmp_path / "a.safetensors", ENCODER)
    save_weights(tmp_path / "b.safetensors", ENCODER, half=True)
    sizes = [(tmp_path / f"{n}.safetensors").stat().st_size for n in "ab"]
    assert sizes[1] < 0.52 * sizes[0]
    back = load_encoder(tmp_path / "b.safetensors")
    for name, value in ENCODER.state_dict().items():
        assert back.state_dict()[name].dtype == value.dtype
        # half precision keeps 11 bits
        assert torch.allclose(back.state_dict()[name], value, rtol=2**-11, atol=1e-7)


def test_weights_are_as_readable_as_any_new_file(tmp_path):
    (tmp_path / "any").touch()
    save_weights(tmp_path / "w.safetensors", ENCODER)
    assert (tmp_path / "w.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


@pytest.mark.parametrize("half", [False, True])
def test_an_autoencoder_is_put_together_from_two_files(tmp_path, half):
    whole = Autoencoder(ENCODER, RENDERER)
    beside, path = tmp_path / "renderer.safetensors", tmp_path / "autoencoder.safetensors"
    save_weights(beside, RENDERER, half=half)
    save_weights(tmp_path / "whole.safetensors", whole, half=half)
    save_weights(path, whole, half=half, about={"dataset": "toy"}, renderer=beside)
    encoder_alone, _ = load_tensors(path)
    assert {name.split(".")[0] for name in encoder_alone} == {"encoder"}
    back, expected = load_autoencoder(path), load_autoencoder(tmp_path / "whole.safetensors")
    assert back.config == expected.config
    for name, value in expected.state_dict().items():
        assert torch.equal(value, back.state_dict()[name]), name
    assert read_about(path) == {"dataset": "toy"}


def test_the_renderer_of_another_autoencoder_is_refused(tmp_path):
    beside, path = tmp_path / "renderer.safetensors", tmp_path / "autoencoder.safetensors"
    save_weights(beside, RENDERER)
    save_weights(path, Autoencoder(ENCODER, RENDERER), renderer=beside)
    other = LearnedRenderer("small", 3, 2, 32)
    save_weights(beside, other)
    _, header = load_tensors(path)
    mine = header["renderer"]["fingerprint"]
    theirs = fingerprint(other.state_dict())
    with pytest.raises(InputError, match=rf"weights \({mine}\) in .* found others \({theirs}\)"):
        load_autoencoder(path)
    with pytest.raises(InputError, match="expected the autoencoder's renderer, found another"):
        save_weights(path, Autoencoder(ENCODER, RENDERER), renderer=beside)
    beside.unlink()
    with pytest.raises(InputError, match=r"renderer\.safetensors, found no such file"):
        load_autoencoder(path)
    save_weights(tmp_path / "elsewhere" / "renderer.safetensors", RENDERER)
    with pytest.raises(InputError, match="expected a renderer's weights next to"):
        save_weights(
            path,
            Autoencoder(ENCODER, RENDERER),
            renderer=tmp_path / "elsewhere" / "renderer.safetensors",
        )


def test_optimizer_state_survives_without_pickle(tmp_path):
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    tensors, rest = pack_optimizer(optimizer.state_dict())
    save_tensors(tmp_path / "o.safetensors", tensors, rest)
    tensors, rest = load_tensors(tmp_path / "o.safetensors")
    other = torch.optim.AdamW(model.parameters(), lr=0.1)
    other.load_state_dict(unpack_optimizer(tensors, rest, list(model.parameters())))
    for before, after in zip(optimizer.state.values(), other.state.values(), strict=True):
        assert before.keys() == after.keys()
        for key in before:
            assert torch.equal(before[key], after[key]), key


def test_another_kind_of_network_is_refused(tmp_path):
    save_weights(tmp_path / "w.safetensors", RENDERER)
    with pytest.raises(InputError, match=r"expected weights of kind encoder, found renderer"):
        load_encoder(tmp_path / "w.safetensors")


def test_files_that_are_not_ours_are_refused(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_encoder(tmp_path / "missing.safetensors")
    (tmp_path / "text.safetensors").write_text("not weights")
    with pytest.raises(InputError, match="expected a whole safetensors file"):
        load_encoder(tmp_path / "text.safetensors")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match="expected weights written by radarbook"):
        load_encoder(tmp_path / "other.safetensors")


def test_weights_of_other_shapes_are_refused(tmp_path):
    tensors = dict(ENCODER.state_dict())
    tensors["network.head.weight"] = torch.zeros(1, 1)
    save_tensors(tmp_path / "w.safetensors", tensors, {"kind": "encoder", "config": ENCODER.config})
    with pytest.raises(InputError, match=r"network\.head\.weight: expected .*found \(1, 1\)"):
        load_encoder(tmp_path / "w.safetensors")


def test_weights_that_are_not_finite_are_refused(tmp_path):
    tensors = {name: value.clone() for name, value in ENCODER.state_dict().items()}
    tensors["network.head.weight"][0, 0] = float("nan")
    path = tmp_path / "w.safetensors"
    save_tensors(path, tensors, {"kind": "encoder", "config": ENCODER.config})
    with pytest.raises(
        InputError, match=r"weights network\.head\.weight: expected finite .* \(1 of"
    ) as error:
        load_encoder(path)
    assert str(path) in str(error.value)


def test_integers_instead_of_weights_are_refused(tmp_path):
    tensors = dict(ENCODER.state_dict())
    tensors["network.head.weight"] = tensors["network.head.weight"].to(torch.int32)
    path = tmp_path / "w.safetensors"
    save_tensors(path, tensors, {"kind": "encoder", "config": ENCODER.config})
    with pytest.raises(InputError, match=r"expected torch\.float32, found torch\.int32"):
        load_encoder(path)


def test_files_that_were_cut_or_overwritten_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_weights(path, ENCODER)
    whole = path.read_bytes()
    for damaged in (
        b"",
        whole[:4],
        whole[:50],
        whole[:-1],
        whole[: len(whole) // 2],
        b"\xff" * 8 + whole[8:],
        whole[:8] + b"[" + whole[9:],
        whole + b"more",
    ):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="expected a whole safetensors file") as error:
            load_encoder(path)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("{", "header: expected JSON"),
        ("[]", "header: expected a JSON object"),
        ("{}", "expected weights of kind encoder, found None"),
        ('{"kind": "encoder"}', "header: expected the configuration"),
        ('{"kind": "encoder", "config": {"depth": 3}}', "as this version writes it.*depth"),
        ('{"kind": "encoder", "config": "x"}', "as this version writes it"),
    ],
)
def test_headers_of_other_versions_are_refused(tmp_path, header, words):
    from safetensors.torch import save_file

    path = tmp_path / "w.safetensors"
    save_file({"a": torch.zeros(1)}, path, {"radarbook": header})
    with pytest.raises(InputError, match=words) as error:
        load_encoder(path)
    assert str(error.value).startswith(str(path))


def test_a_file_that_names_no_renderer_is_refused(tmp_path):
    autoencoder = Autoencoder(ENCODER, RENDERER)
    path = tmp_path / "w.safetensors"
    tensors = {n: v for n, v in autoencoder.state_dict().items() if n.startswith("encoder.")}
    header = {"kind": "autoencoder", "config": autoencoder.config, "renderer": {}}
    save_tensors(path, tensors, header)
    with pytest.raises(InputError, match="expected its renderer's file and fingerprint"):
        load_autoencoder(path)


def test_a_failed_write_leaves_nothing(tmp_path):
    with pytest.raises(TypeError):
        save_tensors(tmp_path / "w.safetensors", {}, {"not JSON": object()})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("expected", "found", "said"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": (1, 2)}, {"a": [1, 2]}, None),
        ({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}, "a.c: expected 2, found 3"),
        ({"a": 1}, {}, "a: expected 1, found nothing"),
        ({}, {"a": 1}, "a: expected nothing, found 1"),
    ],
)
def test_the_first_difference_is_named(expected, found, said):
    assert difference(expected, found) == said
