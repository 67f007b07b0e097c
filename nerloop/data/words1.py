"""The rule `words1`, which models saved before `words2` call `words`. It must not change: they depend on it."""

from __future__ import annotations

import re
from collections.abc import Iterator

Offsets = tuple[int, int]

# A number or word, with punctuation inside it (3.5, O'Neill, U.S., A&M, e-mail), or one character that is no space.
# A final full stop belongs to the word only if the word has another one inside: "U.S." but not "Paris.".
TOKEN = re.compile(r"\w+(?:[.]\w+)+[.]|\w+(?:['’.,&@/:_-]\w+)*|[^\w\s]", re.UNICODE)

LINE = re.compile(r"[^\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+")
SENTENCE_END = re.compile(r"""[.!?…]+["'”’»)\]]*(?=\s)|[。！？]+[”’」』）]*""")
BEGINNING = re.compile(r"""\s+["'“‘«(\[¿¡]*(.?)""")
LAST_WORD = re.compile(r"[\w.]+$")
# A full stop after one of these ends no sentence, nor after a single letter ("J. Smith") or a word with a stop inside
# ("U.S."). The list serves all languages: a wrong cut costs an entity, a missing one only makes a sentence longer.
ABBREVIATED = (
    "mr mrs ms dr prof st sr jr rev gen col maj capt lt sgt sen rep gov pres hon no nos vol vs etc inc ltd co corp "
    "bros dept univ fig figs eq al cf ca approx est jan feb mar apr jun jul aug sep sept oct nov dec"
)
ABBREVIATIONS = frozenset(ABBREVIATED.split())


def words(text: str) -> Iterator[list[Offsets]]:
    """Yield the sentences of a text: a line break ends one, and so does a stop that looks like a sentence's end.

    Such a stop is . ! ? or … (and closing quotes and brackets), followed by white space and then no lower-case letter.
    A single full stop does not count if the word before it is an abbreviation, a letter, or has a full stop inside. The
    stops 。！？ always end a sentence.

    "Mr. Li left. OK" -> [[(0, 2), (2, 3), (4, 6), (7, 11), (11, 12)], [(13, 15)]]
    """
    for line in LINE.finditer(text):
        start = line.start()
        for end in [*_sentence_ends(text, start, line.end()), line.end()]:
            if tokens := [match.span() for match in TOKEN.finditer(text, start, end)]:
                yield tokens
            start = end


def _sentence_ends(text: str, start: int, end: int) -> Iterator[int]:
    for match in SENTENCE_END.finditer(text, start, end):
        following = BEGINNING.match(text, match.end(), end)
        if following and following[1].islower():
            continue
        if match.group() == "." and _is_abbreviated(text[max(start, match.start() - 30) : match.start()]):
            continue
        yield match.end()


def _is_abbreviated(before: str) -> bool:
    word = LAST_WORD.search(before)
    if word is None:
        return False
    found = word.group()
    return "." in found or (len(found) == 1 and found.isalpha()) or found.lower() in ABBREVIATIONS
