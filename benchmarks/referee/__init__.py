"""The referee: an independent simulator of recordings that later figures are judged by.

It shares no code with :mod:`radarbook.radar` and :mod:`radarbook.fitting` (a test reads its
imports). It is made for exactness and not for speed, and computes in float64:

==============================  ================================================================
:mod:`.surface`                 points on smooth surfaces: formulas, and patches through a mesh
:mod:`.scattering`              first reflection: Kirchhoff's integral, Fresnel, speckle
:mod:`.second_bounce`           second reflection: Kirchhoff's integral over pairs of points
:mod:`.shadows`                 what each antenna sees, ray by ray
:mod:`.simulator`               :class:`Referee`: options, bodies in, signal out
:mod:`.instrument`              noise, channel and position errors, delay, leakage, breathing
:mod:`.scenery`                 torso, neck and wall
:mod:`.faces`                   smooth faces of a model, held out by named draws
:mod:`.campaign`                recordings with their truth: ``python -m benchmarks.referee``
==============================  ================================================================
"""

from benchmarks.referee.simulator import Body, Referee

__all__ = ["Body", "Referee"]
