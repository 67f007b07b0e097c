"""Write the parts that nerloop's pages share: self-contained HTML files without scripts, fonts or network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib import resources

from nerloop.inspection.escaping import text


def page(title: str, heading: str, sections: Iterable[str], *, style: str = "") -> str:
    """Return a whole page. `heading` and `sections` are HTML, `title` is our own plain text, `style` adds CSS."""
    shared = resources.files("nerloop.inspection").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>nerloop: {title}</title>\n<style>\n{shared}{style}</style>\n</head>\n<body>\n<main>\n"
        f"<h1>{heading}</h1>\n{''.join(sections)}</main>\n</body>\n</html>\n"
    )


def section(title: str, body: str) -> str:
    """Return a section of a page; both are HTML."""
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>\n"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table: the first column is left-aligned; the others, numbers, right-aligned. Cells are HTML."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(f"<{tag}{'' if i == 0 else ' class=n'}>{cell}</{tag}>" for i, cell in enumerate(cells))

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><thead><tr>{line(headings, "th")}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def text_table(rows: Iterable[Sequence[str]], headings: Sequence[str]) -> str:
    """Return a table, as `table` does, of cells that are text."""
    return table([text(cell) for cell in headings], [[text(cell) for cell in row] for row in rows])


def cards(figures: Iterable[tuple[str, str]]) -> str:
    """Return names and values, both HTML, as a row of cards."""
    return f'<dl class="cards">{"".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in figures)}</dl>'


def hues_of(types: Iterable[str]) -> dict[str, int]:
    """Return a hue for each type, in degrees."""
    return {type_: round(205 + i * 137.5) % 360 for i, type_ in enumerate(types)}  # golden angle: hues lie far apart
