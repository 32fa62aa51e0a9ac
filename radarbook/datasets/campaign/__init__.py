"""A simulated campaign of several people: what it is of, how it is recorded, how it is kept."""
