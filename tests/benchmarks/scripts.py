"""What token borders do to names, by script: the rule of older models against the present one.

    python tests/benchmarks/scripts.py

The samples are real sentences; names are in brackets, as an annotator marks them: without the particles and case
endings that some languages write on the name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

from nerloop.data.segmentation import Rule, rule_of

SAMPLES = {
    "Latin (English)": "[Obama]'s aides met [AT&T], [O'Neill] and [U.S.] envoys in [New York]-based offices. "
    "The [Paris]-[London] train left; [Coca-Cola]'s chief and [Anna Li] (of [Hawai'i]) wrote to a@b.org.",
    "Latin (French)": "L'[Italie] et l'[Espagne] jouent à [Aix-en-Provence] d'après [Jeanne d'Arc].",
    "Latin (Turkish)": "[Mustafa Kemal Atatürk]'ün evi [Ankara]'dadır, [İstanbul]'da değil.",
    "Latin (Yoruba, decomposed)": unicodedata.normalize(
        "NFD", "[Wọlé Ṣóyínká] ni a bí ní [Abẹ́òkúta], [Fẹlá Kútì] sì wá láti [Ìbàdàn]."
    ),
    "Cyrillic": "[Лев Толстой] жил в [Ясной Поляне], а [Фёдор Достоевский] в [Санкт-Петербурге].",
    "Greek": "Ο [Νίκος Καζαντζάκης] γεννήθηκε στο [Ηράκλειο] της [Κρήτης]· πέθανε στη [Γερμανία].",
    "Georgian": "[შოთა რუსთაველი] დაიბადა [მესხეთში], ხოლო [ილია ჭავჭავაძე] [ყვარელში].",
    "Armenian": "[Կոմիտասը] ծնվել է [Քյոթահիայում], իսկ [Արամ Խաչատրյանը]՝ [Թիֆլիսում]։",
    "Arabic": "ولد [نجيب محفوظ] في [القاهرة]، وعاش [طه حسين] في [المنيا] و[الإسكندرية].",
    "Hebrew": '[דוד בן-גוריון] נולד ב[פלונסק] ושירת ב[צה"ל] עם [ג׳ורג׳ כהן] מ[תל אביב].',
    "Devanagari (Nepali)": "[लक्ष्मीप्रसाद देवकोटा] [काठमाडौं]मा जन्मिए। [भानुभक्त आचार्य] [तनहुँ]का कवि हुन्।",
    "Bengali": "[রবীন্দ্রনাথ ঠাকুর] [কলকাতা]য় জন্মগ্রহণ করেন। [কাজী নজরুল ইসলাম] [চুরুলিয়া] গ্রামে জন্মেছিলেন।",
    "Tamil": "[சுப்பிரமணிய பாரதி] [எட்டயபுரம்] என்ற ஊரில் பிறந்தார். [சென்னை] [தமிழ்நாடு] மாநிலத்தின் தலைநகரம்.",
    "Sinhala": "[මාර්ටින් වික්‍රමසිංහ] [කොග්ගල] උපත ලැබීය. [කොළඹ] [ශ්‍රී ලංකාව] තුළ පිහිටි නගරයකි.",
    "Thai": "[สุนทรภู่]เกิดที่[กรุงเทพมหานคร]และ[ปรีดี พนมยงค์]เกิดที่[อยุธยา]",
    "Khmer": "[ព្រះបាទ នរោត្តម សីហនុ]ប្រសូតនៅ[ភ្នំពេញ]ប្រទេស[កម្ពុជា]។",
    "Ethiopic (Amharic)": "[ኃይሌ ገብረሥላሴ] በ[አሰላ] ተወለደ። [ጥሩነሽ ዲባባ] [በቆጂ] ተወለደች፤ [አዲስ አበባ] ትኖራለች።",
    "Chinese": "[鲁迅]出生于[浙江省][绍兴市]，后来在[北京大学]任教。[莫言]来自[山东]。",
    "Japanese": "[夏目漱石]は[東京]で生まれ、[ロンドン]に留学した。[村上春樹]は[京都]、[さくらももこ]は[静岡]の出身。",
    "Korean": "[한강]은 [광주]에서 태어났고, [김소월]은 [평안북도] [구성] 출신이다. [서울]의 [이상] 시인.",
}


def spans_of(sample: str) -> tuple[str, list[tuple[int, int]]]:
    """Return the text of a sample and the places of its names."""
    text, spans, start = "", [], 0
    for part in re.split(r"([\[\]])", sample):
        if part == "[":
            start = len(text)
        elif part == "]":
            spans.append((start, len(text)))
        else:
            text += part
    return text, spans


def num_off_borders(sample: str, rule: Rule) -> tuple[int, int]:
    """Return how many names begin or end inside a token, and the number of names."""
    text, spans = spans_of(sample)
    tokens = [token for sentence in rule(text) for token in sentence]
    starts, ends = {start for start, _ in tokens}, {end for _, end in tokens}
    return sum(start not in starts or end not in ends for start, end in spans), len(spans)


def num_cut_words(sample: str, rule: Rule) -> tuple[int, int]:
    """Return how many words (between white space) are cut before a combining mark, and the number of words."""
    text, _ = spans_of(sample)
    cuts = [start for sentence in rule(text) for start, _ in sentence if unicodedata.category(text[start])[0] == "M"]
    words = [match.span() for match in re.finditer(r"\S+", text)]
    return sum(any(start < cut < end for cut in cuts) for start, end in words), len(words)


def rows() -> Iterator[str]:
    """Yield the rows of the table."""
    yield "| sample | names | off borders: `words1` | `words` | words cut at a mark: `words1` | `words` |"
    yield "|---|---|---|---|---|---|"
    for name, sample in SAMPLES.items():
        cells = []
        for count in (num_off_borders, num_cut_words):
            (old, number), (new, _) = (count(sample, rule_of(rule)) for rule in ("words1", "words"))
            cells += [f"{old / number:.0%}", f"{new / number:.0%}"]
        yield f"| {name} | {len(spans_of(sample)[1])} | {' | '.join(cells)} |"


if __name__ == "__main__":
    print("\n".join(rows()))
