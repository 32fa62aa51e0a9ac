"""Sentences of a Markdown page, and which of them break the book's rules of language.

``python -m tests.prose PAGE…`` lists the faults of pages.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

#: No sentence is longer.
MOST_WORDS = 35

#: Expressions that the book does not use, each with what it uses instead.
RETIRED = {
    r"left unexplained|share left|leaves? unexplained": "normalised residual power",
    r"settled|right face": "accepted, converged, correct",
    r"cloud of faces": "ensemble",
    r"leaner": "reduced",
    r"fuller": "higher fidelity",
    r"skin of its own|roughness of its own": "independent speckle",
    r"covered (face|recording|fit)s?": "behind a layer",
    r"second reflections?": "double bounce",
    r"foretells?|foretold|fortold": "predicts",
    r"reckons? with": "models, includes",
    r"errs?": "has an error of",
    r"held against|holds? against": "compared with",
    r"(told|tells?) apart": "distinguished",
    r"made again|anew": "repeated, again",
    r"look(s|ed)? for": "estimated, fitted, searched",
    r"beside": "next to, in addition to, compared with",
    r"draws?|drawn|drew": "render, sample, plot",
    r"what becomes of": "name it",
    r"manieth": "n-th",
    r"upright and not": "state it positively",
}
_ABBREVIATIONS = r"\b(Eqs?|Figs?|vs|cf|approx|ed|Vol|No|pp|al|e\.g|i\.e|etc|[A-Z])\."


def blocks(text: str) -> list[str]:
    """Paragraphs, list items, headings and table cells of a page, without code and formulas."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)
    text = re.sub(r"^ *(```|~~~|:::).*?^ *\1\s*$", "\n\n", text, flags=re.S | re.M)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"\$\$.+?\$\$(\s*\([\w-]+\))?", " FORMULA ", text, flags=re.S)
    text = re.sub(r"\$[^$\n]+(\n[^$\n]+)?\$", "FORMULA", text)
    text = re.sub(r"(\{[\w:]+\})?`[^`]*`", "CODE", text)
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"<https?://[^>]*>|https?://\S+", "LINK", text)
    found: list[str] = []
    open_block = False
    for line in text.splitlines():
        row = line.strip()
        if row.startswith("|"):
            found += [cell.strip() for cell in row.strip("|").split("|")]
            open_block = False
        elif not row or re.match(r"#+ |\([\w-]+\)=$", row):
            found.append(row.lstrip("# "))
            open_block = False
        elif open_block and not re.match(r"([-*+]|\d+\.) ", row):
            found[-1] += " " + row
        else:
            found.append(re.sub(r"^([-*+]|\d+\.) ", "", row))
            open_block = True
    return [block for block in found if block]


def captions(text: str) -> list[str]:
    """What the code cells of a page say about its figures: captions and alternative texts.

    In an f-string every value is one word.
    """
    found = []
    for cell in re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", text, re.S | re.M):
        code = re.sub(r"\A(?::\w+:[^\n]*\n|---\n.*?\n---\n)*", "", cell, flags=re.S)
        code = re.sub(r"^( *)[%!][^\n]*", r"\1pass", code, flags=re.M)  # magics are no Python
        for node in ast.walk(ast.parse(code)):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func).endswith("show")):
                continue
            for keyword in node.keywords:
                if keyword.arg in ("alt", "caption"):
                    found += _said(keyword.value)
    return found


def _said(value: ast.expr) -> list[str]:
    """The texts that an expression of strings can become."""
    if isinstance(value, ast.Constant):
        return [str(value.value)]
    if isinstance(value, ast.JoinedStr):
        parts = [p.value if isinstance(p, ast.Constant) else "VALUE" for p in value.values]
        return ["".join(map(str, parts))]
    if isinstance(value, ast.IfExp):
        return _said(value.body) + _said(value.orelse)
    raise ValueError(f"a caption of another kind than a string: {ast.unparse(value)}")


def sentences(text: str) -> list[str]:
    """Sentences of a page, those of its captions last."""
    found = []
    for block in [*blocks(text), *(b for caption in captions(text) for b in blocks(caption))]:
        plain = re.sub(_ABBREVIATIONS, lambda m: m[0].replace(".", "·"), block)
        plain = plain.replace("**", "")
        found += re.split(r"(?<=[.!?])[)\"”*]*\s+(?=[^a-z\s])", plain)
    return [sentence.strip() for sentence in found if sentence.strip()]


def faults(text: str) -> list[str]:
    """One line for each sentence that is too long, opens as a riddle or has a retired word."""
    found = []
    for sentence in sentences(text):
        words = [word for word in sentence.split() if re.search(r"\w", word)]
        names = sum(word.strip("(),;:.") == "CODE" for word in words)
        if len(words) > MOST_WORDS and 3 * names < len(words):  # else a list of names
            found.append(f"{len(words)} words: {sentence}")
        opens = re.match(r"(Who|What|Where|Whoever|Whatever) \w+ ", sentence)
        lead_in = len(words) <= 6  # "What you will learn."
        if opens and not lead_in and not sentence.endswith("?"):
            found.append(f"begins with {opens[1]}: {sentence}")
        for pattern, instead in RETIRED.items():
            if hit := re.search(rf"\b({pattern})\b", sentence, re.I):
                found.append(f"'{hit[0]}' ({instead}): {sentence}")
    return found


def main(pages: list[str]) -> None:
    """Print the faults of pages."""
    for page in pages:
        for fault in faults(Path(page).read_text(encoding="utf-8")):
            print(f"{page}: {fault}")


if __name__ == "__main__":
    main(sys.argv[1:])
