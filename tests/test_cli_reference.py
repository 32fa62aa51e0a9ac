"""The page on the command line lists every command, argument and option, as ``--help`` does."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import typer
from markdown_it import MarkdownIt

from radarbook.book.build import COMMANDS_HERE, fill_pages
from radarbook.cli import app
from radarbook.cli.reference import _commands, reference

ROOT = Path(__file__).resolve().parents[1]


def sections(text):
    """Rows of the tables by section; a row is its cells' text, as a browser shows it."""
    found, cells, title = {}, [], ""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    for before, token in pairwise(tokens):
        words = "".join(c.content for c in token.children or ())
        if before.type == "heading_open":
            title = words
            found[title] = []
        elif before.type == "td_open":
            cells.append(words)
        elif token.type == "tr_close" and cells:
            found[title].append(cells)
            cells = []
    return found


def test_every_command_and_option_is_listed_with_its_meaning():
    listed = sections(reference())
    commands = dict(_commands(typer.main.get_command(app), "radarbook"))
    assert list(listed) == list(commands)
    assert {"radarbook run", "radarbook train encoder", "radarbook recording info"} < set(listed)
    for path, command in commands.items():
        parameters = [p for p in command.params if "--help" not in p.opts]
        assert len(listed[path]) == len(parameters)
        for parameter, (name, meaning) in zip(parameters, listed[path], strict=True):
            if parameter.param_type_name == "option":
                assert set(parameter.opts) <= set(name.replace(",", " ").split()), name
            wanted = " ".join((parameter.help or "").replace("`", "").split())
            assert meaning.startswith(wanted), (path, name)


def test_the_build_fills_the_page(tmp_path):
    page = tmp_path / "command_line.md"
    page.write_text((ROOT / "jupyter_book" / "command_line.md").read_text(encoding="utf-8"))
    fill_pages(tmp_path, ROOT)
    text = page.read_text(encoding="utf-8")
    assert COMMANDS_HERE not in text
    assert reference() in text
    assert "file: command_line" in (ROOT / "jupyter_book" / "_toc.yml").read_text()
