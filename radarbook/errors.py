"""The one kind of error that a user causes and a user can mend.

Every check of outside input (files, command-line values, notebook parameters) raises
:class:`InputError` with a message that names the file or the parameter, what was expected and
what was found. The command line prints that one line and exits with status 2; anything else is a
defect of ours and keeps its traceback.
"""

from __future__ import annotations


class InputError(ValueError):
    """Bad input from outside: the message is one clear line meant for the user."""
