"""Pairs of patches that pass a wave on to each other, compiled by Numba for the CPU.

The search is loops, as a matrix of all pairs, of which few are kept, takes ten times as long. The
product with the sparse matrix of the pairs takes two thirds of SciPy's time, as vector instructions
need real and imaginary parts apart.
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


@compiled(nogil=True)
def multiply(begin, columns, values, real, imaginary, out_real, out_imaginary):  # type: ignore[no-untyped-def]
    """K x of a complex matrix in compressed rows and x (P, A) = ``real`` + j ``imaginary``.

    begin (P + 1,) and columns (N,) int64: row p has the entries begin[p] to begin[p + 1] of
    ``values`` (N,). The sums are added to ``out_real`` and ``out_imaginary`` (P, A).
    """
    for row in range(len(begin) - 1):
        sum_real, sum_imaginary = out_real[row], out_imaginary[row]
        for entry in range(begin[row], begin[row + 1]):
            column = columns[entry]
            a, b = values[entry].real, values[entry].imag
            for n in range(real.shape[1]):
                x, y = real[column, n], imaginary[column, n]
                sum_real[n] += a * x - b * y
                sum_imaginary[n] += a * y + b * x
