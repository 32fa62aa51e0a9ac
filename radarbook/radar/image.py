"""A radar image: amplitude, depth and mask on a lateral grid, and its file.

This module holds the container that every renderer returns; how a volume becomes one is in
:func:`image_from_volume`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class RadarImage:
    """A batch of radar images (B images of H × W pixels), images indexed ``[b, y, x]``.

    Attributes
    ----------
    amplitude_db : Tensor (B, H, W)
        Amplitude in dB relative to each image's maximum (0 dB), clipped at the dynamic range.
    depth : Tensor (B, H, W)
        Radar-frame z of the strongest voxel along depth, metres. Finite everywhere; it means
        something only where ``mask`` is true.
    mask : Tensor (B, H, W), bool
        True where the amplitude is above the dynamic range.
    x, y : Tensor (W,), (H,)
        Pixel centres in the radar frame, metres, ascending.
    dynamic_range_db : Tensor (B,)
        Negative dB; where ``amplitude_db`` is clipped.
    """

    amplitude_db: Tensor
    depth: Tensor
    mask: Tensor
    x: Tensor
    y: Tensor
    dynamic_range_db: Tensor

    def __len__(self) -> int:
        return len(self.amplitude_db)

    def __getitem__(self, index: int | slice | Tensor) -> RadarImage:
        """A batch again, also for a single integer index."""
        if isinstance(index, int):
            index = slice(index, index + 1 or None)
        return replace(
            self,
            amplitude_db=self.amplitude_db[index],
            depth=self.depth[index],
            mask=self.mask[index],
            dynamic_range_db=self.dynamic_range_db[index],
        )

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> RadarImage:
        """On another device or, but for the mask, in another dtype."""
        moved = {
            name: getattr(self, name).to(device=device, dtype=dtype)
            for name in ("amplitude_db", "depth", "x", "y", "dynamic_range_db")
        }
        return RadarImage(mask=self.mask.to(device=device), **moved)

    def detach(self) -> RadarImage:
        """The same values without their graph."""
        return replace(self, amplitude_db=self.amplitude_db.detach(), depth=self.depth.detach())

    def with_dynamic_range(self, dynamic_range_db: float | Tensor) -> RadarImage:
        """The same image clipped at another, smaller dynamic range (negative dB, scalar or (B,)).

        A wider range than the image holds cannot be restored: the result keeps the narrower one.
        """
        wanted = torch.as_tensor(dynamic_range_db).to(self.dynamic_range_db)
        floor = torch.maximum(wanted.expand_as(self.dynamic_range_db), self.dynamic_range_db)
        level = floor[:, None, None]
        return replace(
            self,
            amplitude_db=torch.maximum(self.amplitude_db, level),
            mask=self.mask & (self.amplitude_db > level),
            dynamic_range_db=floor,
        )
