"""Radar images, volumes, signals and arrays as pictures.

Images are plotted as the radar sees them: +y up, +x to the *left*, because the radar looks along
+z. So the subject's left is on the right, as in the pictures of :mod:`radarbook.figures.faces`.
Coordinates are shown in millimetres, amplitudes in dB relative to the maximum.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray
from plotly.subplots import make_subplots
from scipy.spatial import ConvexHull

from radarbook.errors import InputError
from radarbook.faces.model import MorphableModel
from radarbook.faces.parameters import FaceParameters
from radarbook.faces.pose import to_radar
from radarbook.figures import theme
from radarbook.figures.faces import _array
from radarbook.radar.image import RadarImage
from radarbook.radar.waveform import C0

X_TITLE = "x (mm), as the radar sees it"
Y_TITLE = "y (mm), up"
_BAR = {"thickness": 12, "outlinewidth": 0}
#: Behind the pixels of a radar image: what is below the dynamic range is not plotted.
NOTHING = "#E4E4E4"
OUTLINE = "#0A84FF"
#: How far a cropped image reaches beyond the outline, m.
_MARGIN = 0.012


@dataclass(frozen=True)
class FaceOutline:
    """Where a face is in a radar image: x and y in the radar frame, metres.

    ``outline`` (n, 2) is the convex hull of the face's vertices as the radar sees them, closed;
    ``landmarks`` (m, 2) are the points that the face model names.
    """

    outline: NDArray[np.float64]
    landmarks: NDArray[np.float64]


def face_outlines(
    model: MorphableModel, parameters: FaceParameters, distance: float
) -> list[FaceOutline]:
    """The outlines of posed faces, to be plotted over their radar images.

    ``distance`` in metres is that of :func:`radarbook.faces.pose.to_radar`.

    Examples
    --------
    >>> import radarbook as rb
    >>> face = face_outlines(rb.load_model(), FaceParameters.neutral(1), 0.3)[0]
    >>> face.landmarks.shape
    (68, 2)
    """
    named = list(model.landmarks.values())
    found = []
    for posed in to_radar(model, parameters.detach(), distance):
        flat = _array(posed, np.float64)[:, :2]
        hull = ConvexHull(flat).vertices
        found.append(FaceOutline(flat[np.append(hull, hull[0])], flat[named]))
    return found


def _panels(rows: int, columns: int, titles: Sequence[str], **keywords: Any) -> go.Figure:
    figure = make_subplots(rows=rows, cols=columns, subplot_titles=list(titles), **keywords)
    figure.update_layout(template="radarbook")
    figure.update_annotations(font_size=13)
    return figure


def _bar_at(figure: go.Figure, row: int, column: int, title: str) -> dict[str, Any]:
    """A colour bar just right of one panel, as tall as it."""
    panel = figure.get_subplot(row, column)
    _, right = panel.xaxis.domain
    low, high = panel.yaxis.domain
    return {
        **_BAR,
        "title": {"text": title, "side": "right"},
        "x": right + 0.01,
        "xanchor": "left",
        "y": (low + high) / 2,
        "len": (high - low),
    }


def _equal_axes(figure: go.Figure, row: int, column: int, *, y_title: bool = True) -> None:
    """Equal millimetres both ways, x running to the left."""
    panel = figure.get_subplot(row, column)
    anchor = panel.yaxis.anchor  # "x", "x2", …
    figure.update_xaxes(
        title_text=X_TITLE, autorange="reversed", constrain="domain", row=row, col=column
    )
    figure.update_yaxes(
        title_text=Y_TITLE if y_title else "",
        scaleanchor=anchor,
        constrain="domain",
        row=row,
        col=column,
    )


def _heatmap(
    z: NDArray[np.float32],
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    unit: str,
    **keywords: Any,
) -> go.Heatmap:
    return go.Heatmap(
        z=z,
        x=x,
        y=y,
        hovertemplate="x %{x:.1f} mm<br>y %{y:.1f} mm<br>%{z:.1f} " + unit + "<extra></extra>",
        **keywords,
    )


def radar_image(
    image: RadarImage,
    index: int = 0,
    *,
    title: str = "",
    depth_limits_mm: tuple[float, float] | None = None,
    outline: FaceOutline | None = None,
) -> go.Figure:
    """Amplitude and depth of one image of the batch, side by side, as :func:`radar_images`.

    Examples
    --------
    >>> import torch
    >>> import radarbook as rb
    >>> axis = torch.linspace(-0.01, 0.01, 9)
    >>> volume = torch.exp(-((axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) / 2e-5))
    >>> grid = rb.Grid(axis, axis, axis + 0.3)
    >>> image = rb.image_from_volume(volume[None].to(torch.complex64), grid)
    >>> len(radar_image(image).data)  # amplitude and depth
    2
    """
    outlines = None if outline is None else [outline]
    return radar_images(image[index], [title], depth_limits_mm=depth_limits_mm, outlines=outlines)


def radar_images(
    images: RadarImage | Sequence[RadarImage],
    labels: Sequence[str],
    *,
    depth_limits_mm: tuple[float, float] | None = None,
    outlines: Sequence[FaceOutline] | None = None,
    title: str = "",
) -> go.Figure:
    """Amplitude (left) and depth (right) of several images, one row each, on common scales.

    Pixels below the dynamic range are left empty. With ``outlines``, one per image, each face's
    outline and landmarks are plotted over its image, and each image is cropped to the face, all to
    one size.

    Examples
    --------
    >>> import torch
    >>> image = RadarImage(*torch.rand(2, 1, 4, 4), torch.ones(1, 4, 4, dtype=torch.bool),
    ...     torch.arange(4.0), torch.arange(4.0), torch.tensor([-20.0]))
    >>> len(radar_images(image, ["a face"]).data)
    2
    """
    batch = [images] if isinstance(images, RadarImage) else list(images)
    rows = [one[n] for one in batch for n in range(len(one))]
    if len(labels) != len(rows):
        raise InputError(f"labels: expected {len(rows)}, one per image, found {len(labels)}")
    if outlines is not None and len(outlines) != len(rows):
        raise InputError(f"outlines: expected {len(rows)}, one per image, found {len(outlines)}")
    names: list[str] = []
    for label in labels:
        lead = f"{label}: " if label else ""
        names += [f"{lead}amplitude", f"{lead}depth"]
    figure = _panels(
        len(rows), 2, names, horizontal_spacing=0.24, vertical_spacing=min(0.16, 0.3 / len(rows))
    )
    floor = min(float(one.dynamic_range_db[0]) for one in rows)
    depths = [_array(one.depth[0], np.float32) * 1e3 for one in rows]
    masks = [_array(one.mask[0], bool) for one in rows]
    if depth_limits_mm is None:
        seen = np.concatenate([d[m] for d, m in zip(depths, masks, strict=True)] or [np.zeros(1)])
        depth_limits_mm = (float(seen.min()), float(seen.max())) if len(seen) else (0.0, 1.0)
    for row, one in enumerate(rows, start=1):
        x, y = (_array(axis, np.float32) * np.float32(1e3) for axis in (one.x, one.y))
        figure.add_trace(
            _heatmap(
                _where(masks[row - 1], _array(one.amplitude_db[0], np.float32)),
                x,
                y,
                "dB",
                colorscale=theme.AMPLITUDE_SCALE,
                zmin=floor,
                zmax=0.0,
                colorbar=_bar_at(figure, row, 1, "amplitude (dB)"),
            ),
            row=row,
            col=1,
        )
        figure.add_trace(
            _heatmap(
                _where(masks[row - 1], depths[row - 1]),
                x,
                y,
                "mm",
                colorscale=theme.DEPTH_COLOURS,
                reversescale=True,
                zmin=depth_limits_mm[0],
                zmax=depth_limits_mm[1],
                colorbar=_bar_at(figure, row, 2, "depth z (mm)"),
            ),
            row=row,
            col=2,
        )
        _equal_axes(figure, row, 1)
        _equal_axes(figure, row, 2, y_title=False)
    if outlines is not None:
        _add_outlines(figure, outlines)
    figure.update_layout(
        plot_bgcolor=NOTHING,
        height=70 + 310 * len(rows),
        title={"text": title},
        margin={"l": 60, "r": 80, "t": 70 if title else 40, "b": 50},
    )
    return figure


def _where(mask: NDArray[np.bool_], values: NDArray[np.floating]) -> NDArray[np.float32]:
    """The values where the mask is true, elsewhere NaN, which is not plotted."""
    return np.where(mask, values, np.nan).astype(np.float32)


def _add_outlines(figure: go.Figure, outlines: Sequence[FaceOutline]) -> None:
    """Outline and landmarks over both panels of each row, cropped to windows of one size."""
    half = np.max([np.ptp(one.outline, axis=0) for one in outlines], axis=0) / 2 + _MARGIN
    for row, one in enumerate(outlines, start=1):
        middle = (one.outline.max(0) + one.outline.min(0)) / 2
        (left, low), (right, high) = 1e3 * (middle - half), 1e3 * (middle + half)
        figure.update_xaxes(range=[right, left], autorange=False, row=row)
        figure.update_yaxes(range=[low, high], row=row)
        for column in (1, 2):
            for points, style in (
                (one.outline, {"mode": "lines", "line": {"color": OUTLINE, "width": 1.5}}),
                (one.landmarks, {"mode": "markers", "marker": {"color": OUTLINE, "size": 2.5}}),
            ):
                x, y = (1e3 * points).astype(np.float32).T
                trace = go.Scatter(
                    x=x.copy(), y=y.copy(), hoverinfo="skip", showlegend=False, **style
                )
                figure.add_trace(trace, row=row, col=column)


def image_slider(
    images: RadarImage,
    labels: Sequence[str],
    *,
    parameter: str = "",
    title: str = "",
    outline: FaceOutline | None = None,
) -> go.Figure:
    """Amplitude and depth that a slider moves through the batch: plotly frames, no kernel.

    With ``outline``, that outline stays over every image, and the images are cropped to it.

    Examples
    --------
    >>> import torch
    >>> import radarbook as rb
    >>> axis = torch.linspace(-0.01, 0.01, 9)
    >>> volume = torch.exp(-((axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) / 2e-5))
    >>> both = torch.stack([volume, 2 * volume]).to(torch.complex64)
    >>> image = rb.image_from_volume(both, rb.Grid(axis, axis, axis + 0.3))
    >>> len(image_slider(image, ["1", "2"]).frames)
    2
    """
    if len(labels) != len(images):
        raise InputError(f"labels: expected {len(images)}, one per image, found {len(labels)}")
    masks = _array(images.mask, bool)
    depth = _where(masks, _array(images.depth, np.float32) * 1e3)
    seen = depth[masks]
    limits = (float(seen.min()), float(seen.max())) if len(seen) else None
    middle = len(images) // 2
    outlines = None if outline is None else [outline]
    figure = radar_images(
        images[middle], [""], depth_limits_mm=limits, outlines=outlines, title=title
    )
    figure.data[0].zmin = float(images.dynamic_range_db.min())
    amplitude = _where(masks, _array(images.amplitude_db, np.float32))
    figure.frames = [
        go.Frame(
            name=str(n),
            data=[go.Heatmap(z=amplitude[n]), go.Heatmap(z=depth[n])],
            traces=[0, 1],
        )
        for n in range(len(images))
    ]
    still = {"mode": "immediate", "frame": {"duration": 0, "redraw": True}, "transition": {}}
    figure.update_layout(
        height=500,
        margin={"b": 150},
        sliders=[
            {
                "active": middle,
                "currentvalue": {"prefix": f"{parameter}: "},
                "pad": {"t": 50, "r": 25},  # room for half of the last label
                "steps": [
                    {"method": "animate", "label": str(label), "args": [[str(n)], still]}
                    for n, label in enumerate(labels)
                ],
            }
        ],
    )
    return figure


def volume_slices(
    volume: Any,
    x: Any,
    y: Any,
    z: Any,
    *,
    at: tuple[float, float, float] | None = None,
    floor_db: float = -30.0,
    title: str = "",
) -> go.Figure:
    """Three cuts of a volume ``[z, y, x]`` (complex or magnitude) through one voxel, in dB.

    ``x, y, z`` are the volume's coordinates in metres; ``at`` the point (x, y, z) cut through,
    metres, by default the brightest voxel.

    Examples
    --------
    >>> import torch
    >>> import radarbook as rb
    >>> axis = torch.linspace(-0.01, 0.01, 9)
    >>> volume = torch.exp(-((axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) / 2e-5))
    >>> len(volume_slices(volume, axis, axis, axis).data)
    3
    """
    level, axes = _levels(volume, x, y, z)
    if at is None:
        k, j, i = (int(n) for n in np.unravel_index(np.argmax(level), level.shape))
    else:
        i, j, k = (int(np.argmin(np.abs(a - 1e3 * p))) for a, p in zip(axes, at, strict=True))
    mx, my, mz = axes
    level = _where(level >= floor_db, level)
    cut_at = {"z": mz[k], "y": my[j], "x": mx[i]}
    names = [f"{axis} = {round(float(v), 1) + 0.0:.1f} mm" for axis, v in cut_at.items()]
    figure = _panels(1, 3, names, horizontal_spacing=0.13)
    cuts = [(level[k], mx, my), (level[:, j], mx, mz), (level[:, :, i], my, mz)]
    labels = [(X_TITLE, Y_TITLE), (X_TITLE, "z (mm), away"), ("y (mm)", "z (mm), away")]
    for n, ((cut, across, up), (x_title, y_title)) in enumerate(
        zip(cuts, labels, strict=True), start=1
    ):
        figure.add_trace(
            _heatmap(
                cut.astype(np.float32),
                across,
                up,
                "dB",
                colorscale=theme.AMPLITUDE_SCALE,
                zmin=floor_db,
                zmax=0.0,
                showscale=n == 3,
                colorbar={**_BAR, "title": {"text": "amplitude (dB)", "side": "right"}},
            ),
            row=1,
            col=n,
        )
        figure.update_xaxes(title_text=x_title.split(",")[0], row=1, col=n)
        figure.update_yaxes(title_text=y_title, row=1, col=n)
        if x_title == X_TITLE:
            figure.update_xaxes(autorange="reversed", row=1, col=n)
    figure.update_layout(
        plot_bgcolor=NOTHING,
        height=320,
        title={"text": title},
        margin={"t": 60 if title else 40, "r": 80},
    )
    return figure


def _levels(
    volume: Any, x: Any, y: Any, z: Any
) -> tuple[NDArray[np.float32], tuple[NDArray[np.float32], ...]]:
    """The volume's level in dB below its maximum, and its coordinates in millimetres."""
    values = volume.detach().cpu().numpy() if hasattr(volume, "detach") else np.asarray(volume)
    values = values[0] if values.ndim == 4 and len(values) == 1 else values
    axes = tuple(_array(axis, np.float32) * np.float32(1e3) for axis in (x, y, z))
    wanted = tuple(len(axis) for axis in reversed(axes))
    if values.shape != wanted:
        raise InputError(f"volume: expected shape {wanted} (z, y, x), found {values.shape}")
    magnitude = np.abs(values).astype(np.float32)
    top = float(magnitude.max())
    if not top > 0:
        raise InputError("volume: expected a non-zero maximum, found an empty volume")
    tiny = np.float32(1e-12)
    return (20 * np.log10(np.maximum(magnitude / top, tiny))).astype(np.float32), axes


def point_spread(
    volume: Any, x: Any, y: Any, z: Any, *, level_db: float = -6.0, floor_db: float = -40.0
) -> go.Figure:
    """The three cuts through a volume's maximum, with their widths at ``level_db`` written out.

    Examples
    --------
    >>> import torch
    >>> import radarbook as rb
    >>> axis = torch.linspace(-0.01, 0.01, 9)
    >>> volume = torch.exp(-((axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2) / 2e-5))
    >>> len(point_spread(volume, axis, axis, axis).data) >= 3
    True
    """
    level, axes = _levels(volume, x, y, z)
    k, j, i = np.unravel_index(int(np.argmax(level)), level.shape)
    cuts = {"x": level[k, j], "y": level[k, :, i], "z": level[:, j, i]}
    figure = theme.new_figure()
    for (name, cut), axis, centre in zip(cuts.items(), axes, (i, j, k), strict=True):
        width = width_at(axis, cut, level_db)
        figure.add_trace(
            go.Scatter(
                x=axis - axis[centre],
                y=np.maximum(cut, floor_db),
                mode="lines",
                name=f"{name}: {width:.1f} mm wide",
            )
        )
    ends = [float(a[0] - a[c]) for a, c in zip(axes, (i, j, k), strict=True)]
    ends += [float(a[-1] - a[c]) for a, c in zip(axes, (i, j, k), strict=True)]
    figure.add_trace(
        go.Scatter(
            x=[min(ends), max(ends)],
            y=[level_db, level_db],
            mode="lines",
            line={"dash": "dot", "color": "#888888", "width": 1},
            name=f"{level_db:g} dB",
        )
    )
    figure.update_layout(
        xaxis_title="distance from the maximum (mm)", yaxis_title="amplitude (dB)", height=360
    )
    return figure


def width_at(axis: ArrayLike, level: ArrayLike, threshold: float) -> float:
    """Width of a curve's main lobe at ``threshold``, in the units of ``axis``.

    Walks outwards from the maximum to the first crossing on each side, linearly interpolated;
    NaN when the curve does not fall below the threshold on both sides.

    Examples
    --------
    >>> width_at([0.0, 1.0, 2.0, 3.0, 4.0], [-9.0, -3.0, 0.0, -3.0, -9.0], -6.0)
    3.0
    """
    x, y = np.asarray(axis, np.float64), np.asarray(level, np.float64)
    top = int(np.argmax(y))
    edges = []
    for step in (-1, 1):
        n = top
        while 0 <= n + step < len(y) and y[n + step] > threshold:
            n += step
        if not 0 <= n + step < len(y):
            return float("nan")
        share = (y[n] - threshold) / (y[n] - y[n + step])
        edges.append(x[n] + share * (x[n + step] - x[n]))
    return float(edges[1] - edges[0])


def range_profile(
    signal: Any,
    frequencies: Any,
    *,
    pairs: Sequence[tuple[int, int]] = ((46, 46),),
    padding: int = 8,
    floor_db: float = -60.0,
    limits_mm: tuple[float, float] | None = None,
    title: str = "",
) -> go.Figure:
    """The range profile of some (rx, tx) pairs of a signal ``(rx, tx, f)``.

    The inverse Fourier transform over frequency (Hann window, zero-padded) of e^{-jkd} has its
    peak at the path length d = d_tx + d_rx; the axis shows d / 2, between ``limits_mm`` if they
    are given. Frequencies (f,) in Hz must be equally spaced; the profile repeats every c / (2 Δf),
    and limits beyond that are an :class:`~radarbook.errors.InputError`.

    Examples
    --------
    >>> import radarbook as rb
    >>> import torch
    >>> array, waveform = rb.qar50(), rb.qar50_waveform(16)
    >>> place = torch.tensor([[0.0, 0.0, 0.05]])
    >>> signal = rb.simulate_points(place, torch.ones(1), array, waveform)
    >>> len(range_profile(signal, waveform.frequencies, pairs=((0, 0), (46, 46))).data)
    2
    """
    values = signal.detach().cpu().numpy() if hasattr(signal, "detach") else np.asarray(signal)
    steps = np.asarray(_array(frequencies, np.float64))
    if values.ndim != 3 or values.shape[2] != len(steps):
        raise InputError(
            f"signal: expected (rx, tx, {len(steps)}) to match the frequencies, "
            f"found {values.shape}"
        )
    count = padding * len(steps)
    window = np.hanning(len(steps) + 2)[1:-1]
    repeats = C0 / (steps[1] - steps[0]) / 2
    if limits_mm is not None and 1e-3 * limits_mm[1] > repeats:
        raise InputError(
            f"limits_mm: expected at most {1e3 * repeats:.0f} mm, after which the profile of "
            f"{len(steps)} frequencies repeats, found {limits_mm[1]:g}"
        )
    half_path = np.arange(count) / count * repeats
    profiles = [np.abs(np.fft.ifft(values[rx, tx] * window, count)) for rx, tx in pairs]
    top = max(float(p.max()) for p in profiles) or 1.0
    low, high = (0.0, np.inf) if limits_mm is None else (1e-3 * limits_mm[0], 1e-3 * limits_mm[1])
    shown = (half_path >= low) & (half_path <= high)
    figure = theme.new_figure()
    for (rx, tx), profile in zip(pairs, profiles, strict=True):
        level = 20 * np.log10(np.maximum(profile / top, 10 ** (floor_db / 20)))
        figure.add_trace(
            go.Scatter(
                x=np.float32(half_path[shown] * 1e3),
                y=np.float32(level[shown]),
                mode="lines",
                name=f"rx {rx}, tx {tx}",
            )
        )
    figure.update_layout(
        xaxis_title="half the path length (mm)",
        yaxis_title="amplitude (dB)",
        title={"text": title},
        height=340,
        showlegend=True,
    )
    return figure


def array_layout(tx: Any, rx: Any, *, virtual: bool = True, title: str = "") -> go.Figure:
    """The antennas (n, 3) in metres and, next to them, the virtual aperture.

    Far from the array a pair acts as one antenna midway between transmitter and receiver; the
    right panel plots all those midpoints.

    Examples
    --------
    >>> import radarbook as rb
    >>> len(array_layout(rb.qar50().tx, rb.qar50().rx).data)  # tx, rx, midpoints
    3
    """
    senders, receivers = (_array(points, np.float32) * np.float32(1e3) for points in (tx, rx))
    names = ["antennas", "virtual aperture: midpoints of all pairs"]
    figure = _panels(1, 2 if virtual else 1, names[: 2 if virtual else 1], horizontal_spacing=0.14)
    for points, name, colour, symbol in (
        (senders, "transmit", theme.COLOURS[1], "square"),
        (receivers, "receive", theme.COLOURS[0], "circle"),
    ):
        figure.add_trace(
            go.Scatter(
                x=points[:, 0].copy(),
                y=points[:, 1].copy(),
                mode="markers",
                name=f"{name} ({len(points)})",
                marker={"size": 4, "color": colour, "symbol": symbol},
            ),
            row=1,
            col=1,
        )
    _equal_axes(figure, 1, 1)
    if virtual:
        middle = (senders[:, None] + receivers[None])[..., :2].reshape(-1, 2) / 2
        figure.add_trace(
            go.Scattergl(
                x=middle[:, 0].copy(),
                y=middle[:, 1].copy(),
                mode="markers",
                name=f"pairs ({len(middle)})",
                marker={"size": 2, "color": theme.COLOURS[2]},
                hoverinfo="skip",
            ),
            row=1,
            col=2,
        )
        _equal_axes(figure, 1, 2, y_title=False)
    figure.update_layout(
        height=430,
        title={"text": title},
        legend={"orientation": "h", "y": -0.2, "x": 0.5, "xanchor": "center"},
        margin={"t": 50, "b": 90},
    )
    return figure
