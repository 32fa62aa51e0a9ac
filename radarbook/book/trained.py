"""Networks that chapters evaluate, with the held-out faces they are evaluated on.

Chapters 3 to 5 show what trained networks do. At a small profile a run trains too little for that,
so by default they take the networks that ship with the project, and images of the size that those
were trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel
from radarbook.networks.autoencoder import Autoencoder
from radarbook.networks.encoder import Encoder
from radarbook.networks.renderer import LearnedRenderer
from radarbook.profiles import Profile, get_profile
from radarbook.radar.renderer import PhysicalRenderer
from radarbook.training import ResidentSamples, read_about, resident, shipped, shipped_path

if TYPE_CHECKING:
    from radarbook.pipeline import Pipeline

#: The profile of the networks that ship, and the face model they are of.
SHIPPED_PROFILE, SHIPPED_MODEL = "laptop", "procedural"


@dataclass(frozen=True)
class Trained:
    """Encoder, learned renderer and autoencoder of one input, and held-out faces for them.

    ``settings`` is the profile of their images. ``test`` holds faces that none of them was trained
    on, with images by ``physical``, unclipped. ``shipped`` says whether they come with the project;
    ``command`` trains them.
    """

    encoder: Encoder
    renderer: LearnedRenderer
    autoencoder: Autoencoder
    inputs: str
    model: MorphableModel
    settings: Profile
    physical: PhysicalRenderer
    test: ResidentSamples
    shipped: bool
    command: str
    training_faces: int

    def __str__(self) -> str:
        origin = "shipped with the project" if self.shipped else "trained by this run"
        return (
            f"networks {origin}: `{self.command}`, {self.training_faces:,} training faces, "
            f"input {self.inputs}; evaluated on {len(self.test)} other faces of "
            f"{self.settings.pixels} x {self.settings.pixels} pixels"
        )


def trained(pipeline: Pipeline, networks_from: str = "shipped", faces: int = 16) -> Trained:
    """The networks that a chapter evaluates.

    Parameters
    ----------
    pipeline : Pipeline
        Of the chapter.
    networks_from : str
        ``"shipped"``: the networks that come with the project, on the first ``faces`` of the test
        faces of the profile that they were trained at (all of them if the pipeline has their
        images). ``"profile"``: those of the pipeline, on its own test faces. A face model, or a
        number of modes, other than that of the shipped networks always takes the latter.
    faces : int
        How many faces to evaluate the shipped networks on.

    Raises
    ------
    InputError
        For another ``networks_from``; if shipped weights are missing or of another face model.

    Examples
    --------
    >>> from radarbook.pipeline import Pipeline
    >>> trained(Pipeline("smoke"), "elsewhere")
    Traceback (most recent call last):
    radarbook.errors.InputError: networks_from: expected shipped or profile, found 'elsewhere'
    """
    if networks_from not in ("shipped", "profile"):
        raise InputError(f"networks_from: expected shipped or profile, found '{networks_from}'")
    own = pipeline.profile
    theirs = get_profile(SHIPPED_PROFILE)
    modes = (own.n_shape, own.n_expression) == (theirs.n_shape, theirs.n_expression)
    if networks_from == "profile" or pipeline.model_spec != SHIPPED_MODEL or not modes:
        inputs = "both" if "both" in own.inputs else own.inputs[0]
        return Trained(
            pipeline.get(f"encoder/{inputs}"),
            pipeline.get("renderer"),
            pipeline.get(f"autoencoder/{inputs}"),
            inputs,
            pipeline.model,
            own,
            pipeline.physical,
            resident(pipeline.get("dataset")["test"]),
            False,
            pipeline.command("3-5"),
            own.train,
        )
    held_out = pipeline.for_test_faces(theirs, faces)
    model, pixels = held_out.model, theirs.pixels
    about = read_about(shipped_path("autoencoder"))
    return Trained(
        cast(Encoder, shipped("encoder", model=model, pixels=pixels)),
        cast(LearnedRenderer, shipped("renderer", model=model, pixels=pixels)),
        cast(Autoencoder, shipped("autoencoder", model=model, pixels=pixels)),
        str(about["inputs"]),
        model,
        theirs,
        held_out.physical,
        resident(held_out.get("dataset")["test"]),
        True,
        str(about["command"]),
        int(about["training_faces"]),
    )
