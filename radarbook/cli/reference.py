"""All commands with their arguments and options, as Markdown: the book's page on them.

``python -m radarbook.cli.reference`` prints it. The build of the book runs this and puts what it
prints into the page, so that the page says what ``--help`` says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import typer

from radarbook.cli import app


def reference() -> str:
    """Markdown: a section per command with its usage, and a table of its arguments and options.

    Examples
    --------
    >>> text = reference()
    >>> "## radarbook render" in text, "`--png`" in text
    (True, True)
    """
    # By a table of the page's own: torch, which the reports need, is not loaded for a text.
    parts = []
    for path, command in _commands(typer.main.get_command(app), "radarbook"):
        context = command.context_class(command, info_name=path)
        usage = " ".join([path, *command.collect_usage_pieces(context)])
        parts += [f"## {path}", _sentences(command.help or ""), f"```text\n{usage}\n```"]
        rows = [row for each in command.get_params(context) if (row := _row(each, context))]
        if rows:
            parts.append("\n".join(["| argument or option | meaning |", "| --- | --- |", *rows]))
    return "\n\n".join(parts) + "\n"


def _commands(command: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Each command that does something, by the words that call it."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, below in command.commands.items():
        yield from _commands(below, f"{path} {name}")


def _row(parameter: Any, context: Any) -> str:
    record = parameter.get_help_record(context)
    if record is None or "--help" in parameter.opts:
        return ""
    name, meaning = record
    # A list of paths is not what a reader calls the type, nor is a range, which is stated.
    name = re.sub(r"\s*<list\[\w+\]>", "", name).replace(" range>", ">")
    return f"| {_plain(name)} | {_plain(meaning)} |"


def _sentences(text: str) -> str:
    """A help text of paragraphs, without the marks of a terminal."""
    return "\n\n".join(_plain(part) for part in re.split(r"\n\s*\n", text.replace("\b", "")))


def _plain(text: str) -> str:
    """One line of Markdown that shows ``text`` as it is, with options and backticked words as
    code: elsewhere two hyphens would become a dash, an asterisk or a bar a mark of Markdown."""
    line = " ".join(text.split())
    parts = re.split(r"(`[^`]*`|(?<![\w-])--?[A-Za-z][\w-]*)", line)
    return "".join(_part(part) for part in parts)


def _part(part: str) -> str:
    if part.startswith("`"):
        return part
    if re.fullmatch(r"--?[A-Za-z][\w-]*", part):
        return f"`{part}`"
    return re.sub(r"([\\|*_<>{}$^~\[\]])", r"\\\1", part)


if __name__ == "__main__":
    print(reference())
