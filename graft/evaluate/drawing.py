"""SVG elements that take their colours and fonts from the page, so that one drawing serves light and dark.

Matplotlib lays out and draws; afterwards its placeholder colours become CSS variables, and text stays text. Nothing but
shapes and text is let through, whatever a label says.
"""

from __future__ import annotations

import hashlib
import io
import re
import threading
import warnings
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from graft.evaluate.wording import printable

INK, MUTED, LINE, ACCENT, SECOND = "#0b0001", "#0b0002", "#0b0003", "#0b0004", "#0b0005"
VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    ACCENT: "var(--accent)",
    SECOND: "var(--second)",
}
SHAPES = {"svg", "g", "defs", "clipPath", "path", "rect", "use", "text", "tspan"}
SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
STYLE = {
    "axes.edgecolor": LINE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10.5,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "font.size": 10.5,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.6,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.labelcolor": INK,
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 10,
    "ytick.color": LINE,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 10,
    "svg.fonttype": "none",
}
WIDTH = 5.0
"""Inches, at 72 units each: 360 units, so that text keeps its size when a phone shows them as 360 pixels."""

ATTRIBUTES = {"id", "d", "style", "x", "y", "width", "height", "transform", "clip-path", "viewBox", "href"}
_ONE_AT_A_TIME = threading.Lock()


def render(draw: Callable[[Figure], None], height: float, alt: str) -> Markup:
    """Draw on a figure of WIDTH x height inches and give it as an element of a page.

    Args:
        draw: puts axes and their content on the figure.
        height: in inches.
        alt: what the drawing shows, in words.
    """
    stream = io.BytesIO()
    with _ONE_AT_A_TIME, mpl.rc_context(), warnings.catch_warnings():  # settings are the whole process's
        # The page's fonts have the scripts that matplotlib's own font lacks; here they are only measured.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        mpl.rcdefaults()
        mpl.rcParams.update(STYLE | {"svg.hashsalt": hashlib.sha256(alt.encode("utf-8", "replace")).hexdigest()})
        figure = Figure(figsize=(WIDTH, height))
        draw(figure)
        FigureCanvasSVG(figure).print_svg(stream, metadata={"Date": None})
    return _for_page(stream.getvalue(), printable(alt))


def _for_page(drawn: bytes, alt: str) -> Markup:
    root = ElementTree.fromstring(drawn)
    used = set(re.findall(r"#(\w+)", " ".join(value for node in root.iter() for value in node.attrib.values())))
    _keep_shapes(root)
    for node in root.iter():
        node.tag = node.tag.removeprefix(SVG)
        node.attrib = _attributes(node.attrib, used)
        node.tail = None
        node.text = node.text if node.tag in ("text", "tspan") else None
    root.attrib |= {"role": "img", "aria-label": alt}
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _keep_shapes(node: ElementTree.Element) -> None:
    for child in list(node):
        if child.tag.removeprefix(SVG) in SHAPES:
            _keep_shapes(child)
        else:
            node.remove(child)


def _attributes(found: dict[str, str], used: set[str]) -> dict[str, str]:
    plain = {name.replace(LINK, "href"): value for name, value in found.items()}
    kept = {name: value for name, value in plain.items() if name in ATTRIBUTES and (name != "id" or value in used)}
    if "style" in kept:
        kept["style"] = re.sub(r"font-family:[^;]*;?|(?<=[;:]) +", "", kept["style"])
        for colour, variable in VARIABLES.items():
            kept["style"] = kept["style"].replace(colour, variable)
    return {name: value.replace("\n", "") if name == "d" else value for name, value in kept.items()}
