"""The book's pages: figures and formulas that need no network, and their numbers.

Two things that Sphinx would fetch from elsewhere are made here at build time instead.

* Figures. myst-nb does not know plotly's output; :class:`PlotlyRenderer` (entry point
  ``myst_nb.mime_renderers``) writes the figure's JSON into the page next to its static picture. A
  reader without JavaScript sees the picture; with it, ``figures.js`` plots the figure when it
  comes into view and drops it when it has gone far away (a browser keeps about sixteen WebGL
  scenes). ``plotly.min.js`` is the one inside the installed plotly package.
* Formulas. They become MathML, which browsers render themselves, set in a font that travels along.

Two kinds of numbers are given here. No two equations of the book have the same one: (7.2) is the
second one of chapter 7, and that of another page begins with the page's letter. On the physics page
the label ``eq-2-3`` is (P2.3), the number by which docstrings cite it. A figure with a name is
numbered within its chapter: Figure 7.2 is the second one of chapter 7.
"""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from docutils import nodes
from sphinx.domains.math import MathDomain
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.math import get_node_equation_number

from radarbook.book import colab
from radarbook.figures.display import ALT, NAME, PLOTLY_MIME

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

SCRIPTS = ("plotly.min.js", "figures.js")
_MATH_FONT = "STIXTwoMath-Regular.ttf"


class PlotlyRenderer:
    """Renders plotly's notebook output for HTML (myst-nb's MimeRenderPlugin)."""

    #: Before every static representation; other builders take the picture.
    mime_priority_overrides: ClassVar[Sequence[tuple[str, str, int | None]]] = [
        (builder, PLOTLY_MIME, 0) for builder in ("html", "dirhtml", "singlehtml")
    ]

    @staticmethod
    def handle_mime(renderer: Any, data: Any, inline: bool) -> list[nodes.Element] | None:
        """The figure's JSON in a container; :class:`JoinPicture` puts the picture into it."""
        if inline or data.mime_type != PLOTLY_MIME:
            return None
        spec = json.loads(data.content) if isinstance(data.content, str) else data.content
        layout = spec.get("layout", {})
        template = layout.get("template", {}).get("layout", {})
        height = int(layout.get("height") or template.get("height") or 450)
        width = int(layout.get("width") or template.get("width") or 700)
        # "</" would end the script element; "<!--" would open a comment in it.
        text = json.dumps(spec, separators=(",", ":")).replace("<", "\\u003c")
        script = f'<script type="application/json" class="radarbook-spec">{text}</script>'
        box = nodes.container(classes=["radarbook-figure"])
        box["radarbook_size"] = (width, height)
        meta = layout.get("meta") or {}
        box["radarbook_alt"] = str(meta.get(ALT, "figure"))
        if NAME in meta:
            box["radarbook_name"] = str(meta[NAME])
        box += nodes.raw("", script, format="html")
        return [box]


class NameFigures(SphinxTransform):
    """Makes a figure that has a name, and the caption below it, one numbered figure."""

    default_priority = 800  # before Sphinx collects what can be referred to (850)

    def apply(self, **kwargs: Any) -> None:
        for box in list(self.document.findall(nodes.container)):
            if "radarbook_name" not in box:
                continue
            bundle = box.parent.parent
            outputs = bundle.parent
            at = outputs.index(bundle)
            below = outputs[at + 1] if at + 1 < len(outputs) else nodes.container()
            words = next(iter(below.findall(nodes.emphasis)), None)
            caption = nodes.caption("", "")
            if words is not None:
                caption += words.children
                outputs.remove(below)
            figure = nodes.figure("", names=[box["radarbook_name"]])
            self.document.note_explicit_target(figure)
            outputs[at] = figure
            figure += [bundle, caption]


def _read_side_by_side(app: Sphinx, config: Any) -> None:
    """Sections are numbered once all pages are read, which that extension does not declare."""
    if "sphinx_multitoc_numbering" in app.extensions:
        app.extensions["sphinx_multitoc_numbering"].parallel_read_safe = True


def _chapter(page: str) -> int | None:
    """The number of the chapter that a page is, or None."""
    number = re.fullmatch(r"notebooks/0*(\d+)_.*", page)
    return int(number[1]) if number else None


def _number_within_chapters(app: Sphinx, env: BuildEnvironment) -> list[str]:
    """Give each page's figures the numbers 1, 2, …, a chapter's with its own number before."""
    for page, kinds in env.toc_fignumbers.items():
        chapter = _chapter(page)
        before = (chapter,) if chapter else ()
        for number, name in enumerate(kinds.get("figure", {}), start=1):
            kinds["figure"][name] = (*before, number)
    return []


def _figure_not_made(
    app: Sphinx, env: BuildEnvironment, node: nodes.Element, contnode: nodes.TextElement
) -> nodes.Element | None:
    """A chapter that was not executed refers to figures that it does not have yet."""
    if node.get("reftype") != "numref" or not str(node.get("reftarget")).startswith("fig-"):
        return None
    return nodes.inline("", "the figure")


class JoinPicture(SphinxPostTransform):
    """Moves each figure's static picture into the figure's box, for readers without JavaScript."""

    default_priority = 3  # before myst-nb chooses one representation of each output (4)
    formats = ("html",)

    def run(self, **kwargs: Any) -> None:
        for box in self.document.findall(nodes.container):
            if "radarbook_size" not in box:
                continue
            bundle = box.parent.parent
            for other in bundle.children:
                if other.get("mime_type") == "image/png":
                    for picture in list(other.findall(nodes.image)):
                        picture.parent.remove(picture)
                        picture["alt"] = box["radarbook_alt"]
                        if not self._one_page():
                            picture["loading"] = "lazy"
                        picture["classes"].append("no-scaled-link")  # a link to what is hidden
                        box.insert(0, picture)
            if self._one_page():  # made to be printed: the picture alone
                for script in list(box.findall(nodes.raw)):
                    box.remove(script)

    def _one_page(self) -> bool:
        return self.app.builder.name == "singlehtml"


def _pages_with_figures(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Load plotly on the pages that have a figure, and on those only."""
    if doctree is None or app.builder.name == "singlehtml":
        return
    if any("radarbook_size" in box for box in doctree.findall(nodes.container)):
        for script in SCRIPTS:
            app.add_js_file(script, loading_method="defer")


def _entries_of_the_bibliography(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """docutils writes entries of a bibliography into a list; they are no items of one."""
    if "citation-list" in context.get("body", ""):
        body = context["body"].replace('<div role="list" class="cit', '<div class="cit')
        context["body"] = body.replace(' role="doc-biblioentry"', "")


def _name_sidebar_buttons(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """A button that unfolds the pages below another has a symbol alone; a screen reader needs a
    name."""
    make = context.get("generate_toctree_html")
    if make is None:
        return

    def named(*arguments: Any, **options: Any) -> Any:
        tree = make(*arguments, **options)
        for button in tree.select("li > details > summary") if hasattr(tree, "select") else ():
            page = button.parent.parent.find("a")
            button["aria-label"] = f"Pages below {page.get_text(strip=True)}" if page else "Pages"
        return tree

    context["generate_toctree_html"] = named


def _colab_opens_its_copies(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """The theme's button opens a notebook of the branch that Binder opens; Colab has its own."""
    for group in context.get("header_buttons", []):
        for button in group.get("buttons", []):
            if button.get("text") == "Colab":
                branch = app.config.html_theme_options["repository_branch"]
                before, _, path = button["url"].partition(f"/blob/{branch}/")
                button["url"] = f"{before}/blob/{colab.BRANCH}/{path}"


# -- formulas ------------------------------------------------------------------------------------


class NumberedEquations(MathDomain):
    """Sphinx's equations, numbered with their page: 7.2 in chapter 7, P2.3 on the physics page."""

    def note_equation(self, docname: str, labelid: str, location: Any = None) -> None:
        super().note_equation(docname, labelid, location)
        number = str(self.data["objects"][labelid][1])
        if fixed := re.fullmatch(r"eq-(\d+)-(\d+[a-z]?)", labelid):
            number = f"{fixed[1]}.{fixed[2]}"
        chapter = _chapter(docname)
        page = f"{chapter}." if chapter else docname.rpartition("/")[2][0].upper()
        self.data["objects"][labelid] = (docname, page + number)


def to_mathml(latex: str, *, display: bool) -> str:
    """MathML of a LaTeX formula. Raises ``ValueError`` naming the formula it cannot read."""
    from latex2mathml.converter import convert

    source = latex.strip()
    # Lines without an environment are aligned, as Sphinx has it; all aligning ones are one here.
    if "\\begin" not in source and "\\\\" in source:
        source = rf"\begin{{align*}}{source}\end{{align*}}"
    kinds = r"\\(begin|end)\{(?:aligned|align|split|gather\*?|gathered|equation\*?)\}"
    source = re.sub(kinds, r"\\\1{align*}", source).replace(r"\operatorname*", r"\operatorname")
    # With braces the converter takes Unicode's bold and script letters, which browsers show;
    # without them it writes an attribute that they no longer know.
    source = re.sub(r"\\(mathbf|mathcal)\s+([A-Za-z])", r"\\\1{\2}", source)
    # TeX sets a thin space around the name of a function, unless a bracket follows.
    name = r"\\(?:sin|cos|tan|ln|log|exp)(?![a-z])"
    source = re.sub(rf"(?<=[A-Za-z0-9}}])\s*(?={name})", r"\\, ", source)
    index = r"(?:\s*[_^](?:\{[^{}]*\}|\w))?"
    source = re.sub(
        rf"({name}{index})\s*(?=[A-Za-z0-9]|\\(?!left|[bB]ig|[,;|]))", r"\1\\, ", source
    )
    try:
        text = convert(source, display="block" if display else "inline")
    except Exception as error:
        raise ValueError(f"formula {latex!r}: {error!r}") from error
    left_over = re.search(r"<m[io][^>]*>\s*(\\\w+|&)\s*</m[io]>", text)
    if left_over:  # what the converter does not know it passes on as if it were a letter
        raise ValueError(f"formula {latex!r}: cannot convert {left_over[1]!r}")
    # A bar is a bracket here, though MathML spaces it as a relation.
    bar = r"<mo((?:(?!space)[^>])*)>(&#x0007C;|&#x02016;)</mo>"
    return re.sub(bar, r'<mo\1 lspace="0" rspace="0">\2</mo>', text)


def _visit_math(translator: Any, node: nodes.math) -> None:
    translator.body.append(to_mathml(node.astext(), display=False))
    raise nodes.SkipNode


def _visit_math_block(translator: Any, node: nodes.math_block) -> None:
    # A long formula scrolls where the page is narrow: the keyboard reaches it by its tab index.
    start = translator.starttag(node, "div", CLASS="math radarbook-math", tabindex="0")
    translator.body.append(start)
    for part in node.astext().split("\n\n"):
        if part.strip():
            translator.body.append(to_mathml(part, display=True))
    if node.get("number"):
        number = html.escape(str(get_node_equation_number(translator, node)))
        translator.body.append(f'<span class="eqno">({number})')
        translator.add_permalink_ref(node, "Link to this equation")
        translator.body.append("</span>")
    translator.body.append("</div>")
    raise nodes.SkipNode


# -- docstrings ----------------------------------------------------------------------------------


def _plain_docstring(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Let docstrings be written for their readers in the source.

    ``|Γ|`` is a magnitude, not a substitution, and a paragraph after a section of parameters
    ends that section.
    """
    result: list[str] = []
    inside = False
    for number, line in enumerate(lines):
        after = lines[number + 1] if number + 1 < len(lines) else ""
        header = bool(re.fullmatch(r"-{3,}", after.strip())) and not line.startswith(" ")
        inside = inside or header
        plain = bool(line.strip()) and not line.startswith(" ") and not header
        entry = re.match(r"[\w*]+(, [\w*]+)*( : |$)", line)
        if inside and plain and not entry and result and not result[-1].strip():
            result.append("")
            inside = False
        pieces = re.split(r"(``.*?``|`.*?`)", line)
        pieces[::2] = [re.sub(r"(?<!\\)\|", r"\|", piece) for piece in pieces[::2]]
        result.append("".join(pieces))
    lines[:] = result


# -- files ---------------------------------------------------------------------------------------


def _copy_files(app: Sphinx, error: Exception | None) -> None:
    """Put plotly.js, our script and style, and the formulas' font next to the pages."""
    if error is not None or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static"
    target.mkdir(exist_ok=True)
    here = Path(__file__).parent
    sources = [
        Path(str(files("plotly") / "package_data" / "plotly.min.js")),
        Path(str(files("ziamath") / "fonts" / _MATH_FONT)),
        here / "figures.js",
        here / "figures.css",
    ]
    for source in sources:
        shutil.copyfile(source, target / source.name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx's entry."""
    app.add_domain(NumberedEquations, override=True)
    app.add_transform(NameFigures)
    app.connect("config-inited", _read_side_by_side)
    app.connect("env-get-updated", _number_within_chapters, priority=900)  # after Sphinx's own
    app.connect("missing-reference", _figure_not_made)
    app.add_post_transform(JoinPicture)
    app.add_html_math_renderer(
        "radarbook_mathml",
        inline_renderers=(_visit_math, None),
        block_renderers=(_visit_math_block, None),
    )
    app.config.html_math_renderer = "radarbook_mathml"
    app.add_css_file("figures.css")
    app.connect("html-page-context", _pages_with_figures)
    app.connect("html-page-context", _entries_of_the_bibliography)
    app.connect("html-page-context", _name_sidebar_buttons, priority=900)  # after the theme
    app.connect("html-page-context", _colab_opens_its_copies, priority=900)
    app.setup_extension("sphinx.ext.autodoc")
    app.connect("autodoc-process-docstring", _plain_docstring, priority=400)  # before napoleon
    app.connect("build-finished", _copy_files)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
