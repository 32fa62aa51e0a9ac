"""How far a scene reaches. Imports nothing, so that the command line's help stays quick."""

#: A scene lies within this distance of the array in x, y and z, m; beyond, numbers are likely mm.
LARGEST_REACH = 10.0
