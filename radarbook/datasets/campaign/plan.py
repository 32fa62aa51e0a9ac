"""The simulated campaign: its parameters and their reasons, and what each take is of.

A campaign stands in for the recordings of several people that this project does not have. All of
its numbers are here. None is fitted to a measurement: they are round values of what a seated
person, a head rest and a calibrated instrument are like, each with its reason. Nothing of it was
chosen by a network's results.

What is *not* in it: eyes that are open and wet, eyelashes, glasses, beards, teeth and tongue behind
open lips, moist skin, waves inside hair and cloth, diffraction at edges, second reflections, and a
face that moves during the sweep otherwise than as a whole.

Every random value depends on the seed and the numbers of subject, expression and take alone, so a
campaign is extended by more subjects or takes without a change to those that are there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from radarbook.errors import InputError
from radarbook.faces.displacements import Displacements, with_displacements
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import DEFAULT_RENDERING, FaceParameters
from radarbook.faces.procedural import EXPRESSION_MODES, MIRROR, RIGHT_LANDMARKS, displacement
from radarbook.seeds import numpy_stream, stream_key

_Triple = tuple[float, float, float]

#: Full expressions by the procedural model's modes (:data:`~radarbook.faces.procedural
#: .EXPRESSION_MODES`), in their standard deviations; a third of a full expression is one.
#: Training samples all modes independently; a person moves some together and leaves the others.
EXPRESSIONS: Mapping[str, Mapping[str, float]] = {
    "neutral": {},
    "smile": {"smile": 2.6, "cheek puff": 0.4, "nose sneer": 0.3},
    "mouth open": {"jaw open": 2.8, "smile": -0.3},
    "brows raised": {"brow raise": 2.8, "brow furrow": -0.5},
    "cheeks puffed": {"cheek puff": 2.8, "pucker": 0.9},
    "eyes squeezed": {"brow furrow": 2.2, "nose sneer": 1.8, "brow raise": -1.2},
    "lips pressed": {"jaw open": -1.4, "pucker": -1.6, "smile": 0.4},
}


@dataclass(frozen=True)
class Identity:
    """Who the subjects are.

    Attributes
    ----------
    spread : float
        Standard deviation of all shape coefficients of the model: 1, the model's own.
    displacements : Displacements, optional
        Smooth displacements of the surface along its normals, one field for each subject: real
        faces are in no model. The defaults of :class:`~radarbook.faces.displacements.Displacements`
        have a standard deviation of 1.1 mm, somewhat above what one face model leaves of another's
        faces. None: faces are of the model.
    material : (float, float)
        Range of the diffuse part of the skin's reflection, one for each subject: the lower half of
        what networks are trained with, as skin is mostly a mirror at 77 GHz.
    """

    spread: float = 1.0
    displacements: Displacements | None = field(default_factory=Displacements)
    material: tuple[float, float] = (0.05, 0.25)


@dataclass(frozen=True)
class Performance:
    """How a person shows an expression.

    Attributes
    ----------
    strength : (float, float)
        Range of a person's factor on a full expression, one for each expression: some people show
        half of what others do.
    habit : float
        Standard deviation of what a person adds to each mode in an expression, in all takes of it:
        a smile that always raises the brows.
    repeat : float
        The same for each take: nobody repeats an expression exactly.
    rest : float
        The same for the neutral face, for its habit and for each take.
    """

    strength: tuple[float, float] = (0.55, 1.1)
    habit: float = 0.35
    repeat: float = 0.2
    rest: float = 0.15


@dataclass(frozen=True)
class Pose:
    """Where a head is.

    Attributes
    ----------
    seat, seat_turn : (float, float, float)
        Standard deviations of a subject's own place in the head rest: translation x, y, z, m, and
        rotation yaw, pitch, roll, rad. People differ in size, and the array is not adjusted.
    settle, settle_turn
        The same for each take: what a head rest lets a head move.
    turned, turned_turn
        Half-widths of uniform draws for a take without the rest: the range of rotation that
        networks are trained with, and less than half of its translation.
    free : int
        This take of each expression is without the head rest, counted from 0, and so is every
        third one after it.
    """

    seat: _Triple = (4e-3, 8e-3, 6e-3)
    seat_turn: _Triple = (math.radians(1.0), math.radians(2.0), math.radians(1.0))
    settle: _Triple = (1.5e-3, 1.5e-3, 1.5e-3)
    settle_turn: _Triple = (math.radians(0.7), math.radians(1.0), math.radians(0.7))
    turned: _Triple = (2e-2, 2e-2, 2e-2)
    turned_turn: _Triple = (math.radians(5.0), math.radians(10.0), math.radians(10.0))
    free: int = 1


@dataclass(frozen=True)
class Hair:
    """Hair and brows: rough surfaces of little reflection that hide what is behind them.

    Attributes
    ----------
    permittivity : complex
        Relative; dry hair is mostly air, with a few percent of keratin (2.5 to 3).
    material : float
        Its reflection is diffuse: no strand is a mirror.
    thickness, brow : float
        mm above the skin.
    hairline : (float, float)
        Range, mm, of how far hair comes down from the upper edge of the face mask in the middle.
    bald : float
        Share of subjects without hair on the head; brows stay.
    """

    permittivity: complex = 1.3 - 0.15j
    material: float = 1.0
    thickness: float = 6.0
    brow: float = 1.5
    hairline: tuple[float, float] = (0.0, 18.0)
    bald: float = 0.25


@dataclass(frozen=True)
class Body:
    """Head behind the mask, ears, neck and shoulders, of a seated adult's size.

    Attributes
    ----------
    ear : (float, float, float)
        Half axes of an ear, mm: sideways, up, and along the head.
    neck : float
        Radius, mm.
    shoulders : (float, float, float)
        Half width and half depth, and height of the part that is simulated, mm. What is lower is
        outside the image and turned away from the array.
    below, behind : float
        mm of the shoulders' top below the chin, and of their front behind it.
    cloth : complex
        Relative permittivity of skin under cotton, nominal.
    cloth_material : float
        Diffuse part of its reflection: cloth is rough.
    """

    ear: _Triple = (7.0, 31.0, 18.0)
    neck: float = 56.0
    shoulders: _Triple = (210.0, 105.0, 140.0)
    below: float = 85.0
    behind: float = 55.0
    cloth: complex = 3.5 - 2.5j
    cloth_material: float = 0.7


@dataclass(frozen=True)
class Foam:
    """A wall of absorbing foam behind the subject.

    Attributes
    ----------
    distance : float
        m from the array, as close as a chair allows.
    side : float
        m.
    depth : float
        m, of the pyramids; echoes come from anywhere in it.
    reflection : float
        Amplitude, |Γ|: -26 dB, a common foam's value at oblique incidence.
    """

    distance: float = 0.85
    side: float = 0.7
    depth: float = 0.05
    reflection: float = 0.05


@dataclass(frozen=True)
class Blanket:
    """A cotton blanket in front of the face.

    Attributes
    ----------
    distance : float
        m from the array.
    thickness : (float, float)
        Range, m.
    permittivity : complex
        Relative; dry cotton is half air.
    every, take : int
        In take number ``take`` of every ``every``-th subject.
    """

    distance: float = 0.17
    thickness: tuple[float, float] = (2e-3, 4e-3)
    permittivity: complex = 1.6 - 0.02j
    every: int = 4
    take: int = 2


@dataclass(frozen=True)
class Breathing:
    """The head moves with the breath.

    Attributes
    ----------
    amplitude : float
        m: half a millimetre in a head rest, against 4 to 12 mm of a chest.
    period : float
        s.
    sweep : float
        s: of one recording.
    """

    amplitude: float = 5e-4
    period: float = 4.0
    sweep: float = 0.05


@dataclass(frozen=True)
class Instrument:
    """What the radar adds: the values of chapter 6, round ones of a calibrated array.

    Attributes
    ----------
    snr_db, leakage_db : float, optional
        See :class:`~radarbook.datasets.imperfections.Imperfections`; None: none.
    gain_db, phase, position : float
        Standard deviations per antenna, dB, rad and m.
    each : bool
        Whether each subject meets an instrument of its own errors. By default one instrument
        records everybody, so that its errors tell nobody apart.
    """

    snr_db: float | None = 20.0
    gain_db: float = 0.3
    phase: float = math.radians(5.0)
    position: float = 1e-4
    leakage_db: float | None = -30.0
    each: bool = False


#: What :meth:`Campaign.only` knows, in the order of the table.
FAULTS = (
    "noise",
    "gain",
    "phase",
    "position",
    "leakage",
    "foam wall",
    "breathing",
    "hair and brows",
    "head, neck and shoulders",
    "shape outside the model",
    "blanket",
)


@dataclass(frozen=True)
class Campaign:
    """A whole campaign.

    Attributes
    ----------
    subjects, takes : int
        Takes are per subject and expression.
    seed : int
        Of everything. No other data set of the project has it.
    identity, performance, pose, hair, body, foam, blanket, breathing, instrument
        As above; None: without.
    antenna_size : float
        m: half a wavelength, the same for all.
    step : int
        Every ``step``-th of the QAR50's 128 frequencies is recorded: 26 hold the depth of a head
        without ambiguity (0.38 m), and what is farther is folded into it, as in the images that
        chapter 6 makes of whole recordings.

    Examples
    --------
    >>> campaign = Campaign(subjects=2, takes=1)
    >>> len(list(campaign.names()))
    14
    >>> campaign.only("noise").hair is None
    True
    """

    subjects: int = 12
    takes: int = 3
    seed: int = 20_260
    identity: Identity = field(default_factory=Identity)
    performance: Performance = field(default_factory=Performance)
    pose: Pose = field(default_factory=Pose)
    hair: Hair | None = field(default_factory=Hair)
    body: Body | None = field(default_factory=Body)
    foam: Foam | None = field(default_factory=Foam)
    blanket: Blanket | None = field(default_factory=Blanket)
    breathing: Breathing | None = field(default_factory=Breathing)
    instrument: Instrument = field(default_factory=Instrument)
    antenna_size: float = DEFAULT_RENDERING[2]
    step: int = 5

    def __post_init__(self) -> None:
        for name in ("subjects", "takes", "step"):
            if getattr(self, name) < 1:
                raise InputError(f"campaign: expected {name} ≥ 1, found {getattr(self, name)}")

    def names(self) -> Iterator[tuple[int, str, int]]:
        """Subject, expression and number of every take: first takes of everybody first."""
        for take in range(self.takes):
            for subject in range(self.subjects):
                for expression in EXPRESSIONS:
                    yield subject, expression, take

    def settings(self) -> dict[str, Any]:
        """What decides a take, JSON-able: all but the numbers of subjects and takes."""
        found: dict[str, Any] = _plain(asdict(self))
        return {name: v for name, v in found.items() if name not in ("subjects", "takes")}

    def clean(self) -> Campaign:
        """The same people, expressions and poses, of the face model's shape alone, before a perfect
        radar."""
        bare = Instrument(None, 0.0, 0.0, 0.0, None, self.instrument.each)
        return replace(
            self,
            identity=replace(self.identity, displacements=None),
            hair=None, body=None, foam=None, blanket=None, breathing=None, instrument=bare,
        )  # fmt: skip

    def only(self, fault: str) -> Campaign:
        """:meth:`clean` with one of :data:`FAULTS`."""
        bare, own = self.clean(), self.instrument
        parts: dict[str, dict[str, Any]] = {
            "noise": {"instrument": replace(bare.instrument, snr_db=own.snr_db)},
            "gain": {"instrument": replace(bare.instrument, gain_db=own.gain_db)},
            "phase": {"instrument": replace(bare.instrument, phase=own.phase)},
            "position": {"instrument": replace(bare.instrument, position=own.position)},
            "leakage": {"instrument": replace(bare.instrument, leakage_db=own.leakage_db)},
            "foam wall": {"foam": self.foam},
            "breathing": {"breathing": self.breathing},
            "hair and brows": {"hair": self.hair},
            "head, neck and shoulders": {"body": self.body},
            "shape outside the model": {"identity": self.identity},
            "blanket": {"blanket": self.blanket},
        }
        if fault not in parts:
            raise InputError(f"fault: expected one of {', '.join(FAULTS)}, found '{fault}'")
        return replace(bare, **parts[fault])

    def face(self, cast: Cast, subject: int, expression: str, take: int) -> FaceParameters:
        """The parameters of one take for the cast's whole model (batch of 1, float32).

        The shape coefficients of the cast's own model come first: they, and its expression
        coefficients, are the truth that a prediction is compared with.
        """
        shape = np.concatenate(
            [
                self.identity.spread * self._draw("shape", subject).standard_normal(cast.own),
                self._draw("displacements", subject).standard_normal(cast.further),
            ]
        )
        translation, rotation = self._head(subject, expression, take)
        low, high = self.identity.material
        rough = low + (high - low) * self._draw("material", subject).uniform()
        parts = {
            "shape": shape,
            "expression": self._expression(cast, subject, expression, take),
            "translation": translation,
            "rotation": rotation,
            "rendering": [DEFAULT_RENDERING[0], rough, self.antenna_size],
        }
        return FaceParameters(
            **{n: torch.tensor(np.asarray(v)[None], dtype=torch.float32) for n, v in parts.items()}
        )

    def without_rest(self, take: int) -> bool:
        """Whether a take is made without the head rest."""
        return take % 3 == self.pose.free

    def covered(self, subject: int, take: int) -> float | None:
        """The thickness of the blanket in front of a subject, m; None without one."""
        if self.blanket is None or take != self.blanket.take or subject % self.blanket.every:
            return None
        low, high = self.blanket.thickness
        return low + (high - low) * float(self._draw("blanket", subject).uniform())

    def recorded_by(self, subject: int) -> int:
        """The number of the instrument that records a subject."""
        return subject if self.instrument.each else 0

    def hairline(self, subject: int) -> float | None:
        """mm of hair below the upper edge of the face mask; None for a bald subject."""
        if self.hair is None:
            return None
        bald, share = self._draw("hair", subject).uniform(size=2)
        low, high = self.hair.hairline
        return None if bald < self.hair.bald else low + (high - low) * float(share)

    def velocity(self, subject: int, expression: str, take: int) -> float:
        """m/s along z, of the breath at the time of a take."""
        if self.breathing is None:
            return 0.0
        phase = self._draw("breath", self.number(subject, expression, take)).uniform(0, 2 * math.pi)
        rate = 2 * math.pi / self.breathing.period
        return float(self.breathing.amplitude * rate * np.cos(phase))

    def number(self, subject: int, expression: str, take: int) -> int:
        """Of a take, for its random streams: it does not depend on how many there are."""
        return stream_key(subject, expression, take)

    def _draw(self, name: str, index: int) -> np.random.Generator:
        return numpy_stream(self.seed, f"campaign/{name}", index)

    def _head(
        self, subject: int, expression: str, take: int
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        pose, number = self.pose, self.number(subject, expression, take)
        draw = self._draw("pose", number)
        if self.without_rest(take):
            both = np.array(pose.turned + pose.turned_turn) * draw.uniform(-1, 1, 6)
        else:
            own = np.array(pose.seat + pose.seat_turn)
            both = own * self._draw("seat", subject).standard_normal(6)
            both += np.array(pose.settle + pose.settle_turn) * draw.standard_normal(6)
        return both[:3], both[3:]

    def _expression(
        self, cast: Cast, subject: int, expression: str, take: int
    ) -> NDArray[np.float64]:
        if expression not in EXPRESSIONS:
            known = ", ".join(EXPRESSIONS)
            raise InputError(f"expression: expected one of {known}, found '{expression}'")
        parts = EXPRESSIONS[expression]
        full = np.array([parts.get(mode.name, 0.0) for mode in EXPRESSION_MODES])
        own = self._draw("person's expression", stream_key(subject, expression))
        now = self._draw("repeated expression", self.number(subject, expression, take))
        acting = self.performance
        low, high = acting.strength
        habit, repeat = (acting.habit, acting.repeat) if parts else (acting.rest, acting.rest)
        moved = (low + (high - low) * own.uniform()) * full
        moved = moved + habit * own.standard_normal(len(full))
        moved = moved + repeat * now.standard_normal(len(full))
        return np.asarray(moved.clip(-3, 3) @ cast.named)


@dataclass(frozen=True, eq=False)
class Cast:
    """A face model as a campaign uses it.

    Attributes
    ----------
    model : MorphableModel
        With displacements as further shape modes, if the campaign has them.
    own : int
        Shape modes of the model itself.
    named : (7, K) array
        Coefficients of the model's K expression modes for one standard deviation of each of the
        procedural model's, which :data:`EXPRESSIONS` is stated in. For another model its fields
        are carried over by the 68 landmarks, and the nearest sum of the model's modes is taken.
    """

    model: MorphableModel
    own: int
    named: NDArray[np.float64]

    @property
    def further(self) -> int:
        """Displacement modes."""
        return self.model.n_shape - self.own

    @classmethod
    def of(cls, model: MorphableModel, campaign: Campaign) -> Cast:
        """Raises :class:`~radarbook.errors.InputError` for another model without landmarks."""
        wanted = campaign.identity.displacements
        whole = model if wanted is None else with_displacements(model, wanted)
        return cls(whole, model.n_shape, _named_modes(model))


def _named_modes(model: MorphableModel) -> NDArray[np.float64]:
    """See :class:`Cast`."""
    if model.name == "procedural":
        return np.eye(len(EXPRESSION_MODES), model.n_expression)
    places = dict(RIGHT_LANDMARKS)
    places |= {left: (-places[right][0], places[right][1]) for left, right in MIRROR}
    there = {f"multipie68.{number:02d}": place for number, place in places.items()}
    shared = [name for name in there if name in model.landmarks]
    if len(shared) < 10:
        raise InputError(
            f"{model.name}: expected the 68 landmarks of a face (multipie68.00 ...), to know where "
            f"its brows and lips are, found {len(shared)} of them"
        )
    mean = model.mean.double().numpy()
    corners = mean[[model.landmarks[name] for name in shared], :2]
    one = np.ones((len(corners), 1))
    wanted = np.array([there[name] for name in shared])
    change = np.linalg.lstsq(np.hstack([corners, one]), wanted, rcond=None)[0]
    moved = mean.copy()
    moved[:, :2] = mean[:, :2] @ change[:2] + change[2]
    fields = np.stack([displacement(moved, mode).ravel() for mode in EXPRESSION_MODES])
    modes = model.expression_modes.double().numpy().reshape(model.n_expression, -1)
    return np.asarray(np.linalg.lstsq(modes.T, fields.T, rcond=None)[0].T)


def _plain(value: Any) -> Any:
    """JSON-able: complex numbers as pairs."""
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
