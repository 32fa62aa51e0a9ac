"""The search for pairs of patches that pass a wave on to each other, compiled by Numba.

Loops on the CPU: a matrix of all pairs, of which few are kept, takes ten times as long.
"""

from __future__ import annotations

import math

from radarbook.radar.kernels.cpu import compiled


@compiled(nogil=True)
def search(centre, normal, toward, reach, margin, taper, least, found):  # type: ignore[no-untyped-def]
    """Number of pairs i < j of P patches that face each other with a weight above ``least``.

    centre, normal, toward (P, 3) and reach (P,) float64 as in
    :mod:`radarbook.radar.double_bounce`, whose window ``margin`` and ``taper`` describe. The pairs
    go into ``found`` (n, 2) int64, the first n of them.
    """
    count = 0
    for i in range(len(centre)):
        for j in range(i + 1, len(centre)):
            x = centre[j, 0] - centre[i, 0]
            y = centre[j, 1] - centre[i, 1]
            z = centre[j, 2] - centre[i, 2]
            rise = normal[i, 0] * x + normal[i, 1] * y + normal[i, 2] * z
            fall = -(normal[j, 0] * x + normal[j, 1] * y + normal[j, 2] * z)
            if rise <= 0.0 or fall <= 0.0:
                continue
            inverse = 1 / math.sqrt(x * x + y * y + z * z)
            x, y, z = x * inverse, y * inverse, z * inverse
            weight = 1.0
            for patch, sign in ((i, -1.0), (j, 1.0)):
                a = toward[patch, 0] + sign * x
                b = toward[patch, 1] + sign * y
                c = toward[patch, 2] + sign * z
                up = a * normal[patch, 0] + b * normal[patch, 1] + c * normal[patch, 2]
                along = math.sqrt(max(a * a + b * b + c * c - up * up, 0.0))
                part = (along - reach[patch] - margin) / taper
                if part >= 1.0:
                    weight = 0.0
                    break
                if part > 0.0:
                    weight *= math.cos(0.5 * math.pi * part) ** 2
            if weight > least:
                if count < len(found):
                    found[count, 0] = i
                    found[count, 1] = j
                count += 1
    return count
