"""Plain text in: a sentence a line, cut into tokens by one rule."""

from __future__ import annotations

import re

from nerloop.types import Example

# A number or word with what stands inside it (3.5, O'Neill, U.S., A&M, e-mail), else one character that is no space.
# A final full stop stays only where the word has another inside: "U.S." but not "Paris.".
TOKEN = re.compile(r"\w+(?:[.]\w+)+[.]|\w+(?:['’.,&@/:_-]\w+)*|[^\w\s]", re.UNICODE)


def tokenize(text: str) -> list[str]:
    """Return the tokens of a line of text.

    "Mr. Li (U.S.) won 3.5%." -> ["Mr", ".", "Li", "(", "U.S.", ")", "won", "3.5", "%", "."]
    """
    return TOKEN.findall(text)


def read_text(lines: list[str], name: str) -> list[Example]:
    """Return an example a line, blank ones left out: they end a document, as they do in a file of paragraphs."""
    examples: list[Example] = []
    document = ""
    for number, line in enumerate(lines, start=1):
        if tokens := tokenize(line):
            document = document or f"{name}:{number}"
            examples.append(Example(tuple(tokens), (), f"{name}:{number}", document))
        else:
            document = ""
    return examples
