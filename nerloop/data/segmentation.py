"""Cut plain text into sentences and tokens with one rule, which sees only the text and keeps the offsets.

A rule is a function from a text to its sentences, each a list of its tokens as (start, end) in code points. `words` is
the one that is used unless `data.tokenizer` names another: a built-in one or the dotted path of your own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence

from nerloop import plugins
from nerloop.errors import PluginError, shorten
from nerloop.types import Example

Offsets = tuple[int, int]
"""Start and end of a token in its text, in code points, half-open."""
Rule = Callable[[str], Iterable[Sequence[Offsets]]]

RULES = {"words": "nerloop.data.segmentation.words", "whitespace": "nerloop.data.segmentation.whitespace"}
DEFAULT_RULE = "words"

# A number or word, with punctuation inside it (3.5, O'Neill, U.S., A&M, e-mail), or one character that is no space.
# A final full stop belongs to the word only if the word has another one inside: "U.S." but not "Paris.".
TOKEN = re.compile(r"\w+(?:[.]\w+)+[.]|\w+(?:['’.,&@/:_-]\w+)*|[^\w\s]", re.UNICODE)

LINE = re.compile(r"[^\n\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]+")
SENTENCE_END = re.compile(r"""[.!?…]+["'”’»)\]]*(?=\s)|[。！？]+[”’」』）]*""")
BEGINNING = re.compile(r"""\s+["'“‘«(\[¿¡]*(.?)""")
LAST_WORD = re.compile(r"[\w.]+$")
# Before a full stop these end no sentence, and neither does a single letter ("J. Smith") or a word with a stop inside
# ("U.S."). English, since a wrong cut costs an entity and a missing one only a longer sentence.
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


def whitespace(text: str) -> Iterator[list[Offsets]]:
    """Yield the sentences of a text that is tokenized already: a sentence a line, white space between its tokens."""
    for line in LINE.finditer(text):
        if tokens := [match.span() for match in re.finditer(r"\S+", line.group())]:
            yield [(start + line.start(), end + line.start()) for start, end in tokens]


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


def rule_of(name: str) -> Rule:
    """Return the rule that `data.tokenizer` names, its answers checked. Raises PluginError for none."""
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


def tokenize(text: str, rule: Rule = words) -> list[str]:
    """Return the tokens of a line of text, whatever sentences the rule cuts it into.

    "Mr. Li (U.S.) won 3.5%." -> ["Mr", ".", "Li", "(", "U.S.", ")", "won", "3.5", "%", "."]
    """
    return [text[start:end] for sentence in rule(text) for start, end in sentence]


def read_text(lines: Iterable[str], name: str, rule: Rule = words) -> Iterator[Example]:
    """Yield an example a line, blank ones left out: they end a document, as they do in a file of paragraphs."""
    document = ""
    for number, line in enumerate(lines, start=1):
        if tokens := tokenize(line, rule):
            document = document or f"{name}:{number}"
            yield Example(tuple(tokens), (), f"{name}:{number}", document)
        else:
            document = ""
