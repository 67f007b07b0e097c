"""Read lists as Python, JSON, numpy and pandas print them into the cells of a table."""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from nerloop.errors import DataError, shorten

LIST = re.compile(r"(?:(?:np\.|numpy\.)?(?:array|list|tuple))?\s*[\[(].*[\])]", re.DOTALL)
STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
# These patterns see \0 in place of each string, so that nothing inside strings is taken for structure.
SCALAR = re.compile(r"(?:np\.|numpy\.)?(?:str_|int\d+|int_|longlong)\((\0|-?\d+)\)")
WRAPPED = re.compile(r"(?:np\.|numpy\.)?(?:array|list|tuple)\((.*?)\s*\)", re.DOTALL)
DTYPE = re.compile(r",\s*(?:shape=\(\d+,\),\s*)?dtype=(?:\w+|'[<>|=]?\w+')\)$")
SPACED = re.compile(r"\[\s*(?:\0|-?\d+)(?:\s+(?:\0|-?\d+))*\s*\]|\[\s*\]")


def looks_like_list(cell: str) -> bool:
    """Return whether a cell begins and ends like a list."""
    return LIST.fullmatch(cell.strip()) is not None


def parse_list(cell: str, where: str) -> list[Any]:
    """Return the list in a cell: '["a"]', "['a', 'b']", "['a' 'b']" and "[0 1]" of numpy, "array(['a'], dtype=object)".

    Raises DataError, starting with `where`, for anything ambiguous. Python itself would read "['EU' 'rejects']" as a
    list of one string.
    """
    text = cell.strip()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = _python_list(text, where)
    if isinstance(value, list | tuple):
        return list(value)
    raise DataError(f'{where}: found {shorten(cell)}, expected a list such as ["EU", "rejects"]')


def _python_list(text: str, where: str) -> Any:
    text = DTYPE.sub(")", text)
    strings = STRING.findall(text)
    form = SCALAR.sub(r"\1", STRING.sub("\0", text))
    if "..." in form:
        raise DataError(
            f"{where}: numpy left items out of this list and wrote '...': {shorten(text)}. Write the file again with "
            "lists: df[column] = df[column].map(list)"
        )
    while (shorter := WRAPPED.sub(r"\1", form)) != form:
        form = shorter
    if SPACED.fullmatch(form):
        form = f"[{', '.join(form[1:-1].split())}]"
    if re.search(r"\0\s*\0", form):
        raise DataError(f"{where}: found strings without a comma between them: {shorten(text)}")
    if "'" not in form and '"' not in form and form.count("\0") == len(strings):
        each = iter(strings)
        try:
            return ast.literal_eval(re.sub("\0", lambda _: next(each), form))
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            pass
    raise DataError(f'{where}: found {shorten(text)}, expected a list such as ["EU", "rejects"]')
