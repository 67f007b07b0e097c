"""Cut plain text into sentences and tokens with one rule, which sees only the text and keeps the offsets.

A rule is a function from a text to its sentences, each a list of tokens as (start, end) in code points. `words` is the
default; `data.tokenizer` names another built-in rule or the dotted path of your own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import regex

from nerloop import plugins
from nerloop.errors import PluginError, shorten

Offsets = tuple[int, int]
"""Start and end of a token in its text, in code points, half-open."""
Rule = Callable[[str], Iterable[Sequence[Offsets]]]

RULES = {
    "words": "nerloop.data.segmentation.words",
    "whitespace": "nerloop.data.segmentation.whitespace",
    "words1": "nerloop.data.words1.words",
    "words2": "nerloop.data.segmentation.words",
}
DEFAULT_RULE = "words"
SAVED_AS = {"words": "words2"}
"""The name of a rule in a saved model: "words" means the newest version, but a model keeps the one of its training."""
SAVED_BEFORE = {"words": "words1"}
"""The rule that a name in a saved model means: models saved before there was `words2` say "words"."""

MAX_TOKENS = 160
"""Most tokens of a sentence. Longer ones are cut, so that most pieces fit into a model's window.

Otherwise they would need overlapping windows, and attention costs more the longer a piece is.
"""

MAX_CHARACTERS = 100_000
"""Characters that are searched for tokens at once. No word is that long, so a cut there parts none."""

# Words by Unicode Standard Annex #29, with the changes described below. All repetitions are possessive (++ or *+): a
# match never backtracks, so the time is linear in the length of the text.
_LETTER = r"[\p{WB=ALetter}\p{WB=Hebrew_Letter}]"
_UNIT = r"[\p{WB=ALetter}\p{WB=Hebrew_Letter}\p{WB=Numeric}]"
_MARKS = r"[\p{WB=Extend}\p{WB=ZWJ}]*+"  # combining marks and joiners belong to what they follow
_APOSTROPHE = "['’＇]"
_LETTERS = rf"(?:{_LETTER}{_MARKS})++"
_SMALL = rf"(?:\p{{Ll}}{_MARKS})++"
_RUN = rf"{_UNIT}{_MARKS}(?:\p{{WB=Format}}*+{_UNIT}{_MARKS})*+"  # continues over soft hyphens and direction marks
# Characters that join two runs to one word: 3.5 and 10:30, U.S and x.org but not "end.Start", O'Neill, col·legi, צה"ל.
_JOINT = rf"""(?:
      (?<=\p{{Nd}})[.,:．，：](?=\p{{Nd}})
    | [.](?={_UNIT})(?:(?<!\p{{Ll}}[.])|(?!\p{{Lu}}))
    | {_APOSTROPHE}(?={_UNIT})(?![sS](?!{_UNIT}))
    | [·‧\u05f3\u05f4](?={_LETTER})
    | (?<=\p{{WB=Hebrew_Letter}})"(?=\p{{WB=Hebrew_Letter}})
)"""
_TOKEN = regex.compile(
    rf"""(?V1)(?x:
      # Most words. The branches below match the same, but with this one the whole takes two thirds of the time.
      [A-Za-z]++(?=[ ])
      # Letters with full stops, the last one included: U.S., Ph.D.
    | (?:{_LETTER}{_MARKS}){{1,2}}+(?:[.](?:{_LETTER}{_MARKS}){{1,2}}+)++[.](?!{_UNIT})
      # The part before an apostrophe and a name (l'Italie, dell'Europa) ...
    | (?:[LDld]|{_SMALL}|\p{{Lu}}{_MARKS}{_SMALL}){_APOSTROPHE}(?=\p{{Lu}})
      # ... and a name before an apostrophe, and what follows it (Obama's, Ankara'da).
    | [\p{{Lu}}&&\p{{Latin}}]{_MARKS}{_LETTERS}(?={_APOSTROPHE}\p{{Ll}})
    | (?<={_LETTER}|\p{{M}}){_APOSTROPHE}(?:{_SMALL}|S(?!{_UNIT}))
      # A word, or a run of Katakana.
    | {_RUN}(?:{_JOINT}{_RUN})*+
    | (?:\p{{WB=Katakana}}{_MARKS})++
      # Anything else that can be seen: one character as a reader sees it (ideographs, Thai, emoji, punctuation).
    | \p{{RI}}{{2}}  # a flag; \X would count the flags before it each time
    | (?![\s\x1c-\x1f\p{{Cf}}])\X
    )"""
)

_LINE = regex.compile(r"[^\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]++")
_CLOSING = r"""["'”’»)\]」』）]*+"""
_SENTENCE_END = regex.compile(rf"(?<![.!?…؟։])[.!?…؟։]++{_CLOSING}(?=\s)|[。！？｡।॥።፧។៕။۔]++{_CLOSING}")
_BEGINNING = regex.compile(r"""\s++["'“‘«(\[¿¡]*+(.?)""")
_LAST_WORD = regex.compile(r"[\w.]+$")
_CLAUSE_ENDS = frozenset(",;:،؛、，；：")
# A full stop after one of these ends no sentence, nor after a single letter ("J. Smith") or letters with a stop inside
# ("U.S."). The list serves all languages: a wrong cut costs an entity, a missing one only makes a sentence longer.
_ABBREVIATED = (
    "mr mrs ms dr prof st sr jr rev gen col maj capt lt sgt sen rep gov pres hon no nos vol vs etc inc ltd co corp "
    "bros dept univ fig figs eq al cf ca approx est jan feb mar apr jun jul aug sep sept oct nov dec"
)
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())


def words(text: str) -> Iterator[list[Offsets]]:
    """Yield the sentences of a text: a line break ends one, and so does a stop that looks like a sentence's end.

    Such a stop is . ! ? … ؟ or ։ (and closing quotes and brackets), followed by white space and then no lower-case
    letter. A single full stop does not count if the word before it is an abbreviation, a letter, or letters with a full
    stop inside. The stops 。！？ and those of Indic scripts, Urdu, Ethiopic, Khmer and Burmese always end a sentence.
    A sentence of more than MAX_TOKENS tokens is cut, if possible after a comma, semicolon or colon.

    "Mr. Li left. OK" -> [[(0, 2), (2, 3), (4, 6), (7, 11), (11, 12)], [(13, 15)]]
    """
    for line in _LINE.finditer(text):
        start = line.start()
        for end in [*_sentence_ends(text, start, line.end()), line.end()]:
            if tokens := list(_tokens(text, start, end)):
                yield from _of_bounded_length(text, tokens)
            start = end


def _tokens(text: str, start: int, end: int) -> Iterator[Offsets]:
    """Yield the tokens of a sentence, part by part where it is very long: `regex` runs out of memory in a huge word."""
    while start < end:
        stop = end
        if end - start > MAX_CHARACTERS:
            space = text.rfind(" ", start, start + MAX_CHARACTERS)
            stop = space if space > start else start + MAX_CHARACTERS
        yield from (match.span() for match in _TOKEN.finditer(text, start, stop))
        start = stop


def whitespace(text: str) -> Iterator[list[Offsets]]:
    """Yield the sentences of a text that is tokenized already: a sentence a line, white space between its tokens."""
    for line in _LINE.finditer(text):
        if tokens := [match.span() for match in regex.finditer(r"\S++", text, pos=line.start(), endpos=line.end())]:
            yield tokens


def _sentence_ends(text: str, start: int, end: int) -> Iterator[int]:
    for match in _SENTENCE_END.finditer(text, start, end):
        following = _BEGINNING.match(text, match.end(), end)
        if following and following[1].islower():
            continue
        if match.group() == "." and _is_abbreviated(text[max(start, match.start() - 30) : match.start()]):
            continue
        yield match.end()


def _is_abbreviated(before: str) -> bool:
    word = _LAST_WORD.search(before)
    if word is None:
        return False
    parts = word.group().split(".")
    is_of_letters = all(len(part) <= 2 and part.isalpha() for part in parts) and (len(parts) > 1 or len(parts[0]) == 1)
    return is_of_letters or word.group().lower() in _ABBREVIATIONS


def _of_bounded_length(text: str, tokens: list[Offsets]) -> Iterator[list[Offsets]]:
    start = 0
    while len(tokens) - start > MAX_TOKENS:
        last = start + MAX_TOKENS
        places = range(last, start + MAX_TOKENS // 2, -1)
        stop = next((i for i in places if text[tokens[i - 1][0]] in _CLAUSE_ENDS), last)
        yield tokens[start:stop]
        start = stop
    yield tokens[start:]


def rule_of(name: str) -> Rule:
    """Return the rule that `data.tokenizer` names; a user's rule is checked on every call. Raises PluginError."""
    rule = plugins.find_function("data.tokenizer", name, RULES)
    return rule if name in RULES else _checked(rule, name)


def _checked(rule: Rule, name: str) -> Rule:
    def run(text: str) -> list[list[Offsets]]:
        try:
            sentences = [[(int(start), int(end)) for start, end in sentence] for sentence in rule(text)]
        except Exception as error:  # a user's function may raise anything
            raise PluginError(f"data.tokenizer {name}: {type(error).__name__}: {error}, on {shorten(text)}") from error
        at = 0
        for start, end in (token for sentence in sentences for token in sentence):
            if not at <= start < end <= len(text):
                raise PluginError(
                    f"data.tokenizer {name}: found token {(start, end)} after offset {at} in a text of {len(text)} "
                    f"characters, expected tokens from left to right that don't overlap: {shorten(text)}"
                )
            at = end
        return [sentence for sentence in sentences if sentence]

    return run
