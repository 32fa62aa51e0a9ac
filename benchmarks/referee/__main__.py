"""``python -m benchmarks.referee``: see :mod:`benchmarks.referee.campaign`."""

import sys

from benchmarks.referee.campaign import main
from radarbook.errors import InputError

if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
