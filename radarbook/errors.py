"""Errors for the user: invalid input, and long work that could not go on.

Every check of outside input (files, command-line values, notebook parameters) raises
:class:`InputError` with a message that names the file or the parameter, what was expected and
what was found. The command line prints that one line and exits with status 2. Long work that could
not go on raises :class:`StoppedError`, exit status 1. Anything else is a defect of ours and keeps
its traceback.
"""

from __future__ import annotations


class InputError(ValueError):
    """Raised for invalid user input; the message is one clear line for the user.

    Examples
    --------
    >>> import radarbook as rb
    >>> try:
    ...     rb.load_model("absent.h5")
    ... except rb.InputError as error:
    ...     print(error)
    absent.h5: model file not found
    """


class StoppedError(RuntimeError):
    """Raised if long work stops before its end; finished parts are kept.

    The message is one clear line: why it stopped, what is kept, and how to go on.
    """
