"""Which columns hold tokens and tags, told by the content of whole files as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from nerloop.data import ReadOptions, read_files
from nerloop.errors import DataError

pytestmark = pytest.mark.usefixtures("in_tmp_path")


def read(text: str, **options) -> list[str]:
    """Return the sentences of a file, each as "token/tag token/tag"."""
    Path("x.conll").write_text(text, encoding="utf-8")
    examples = read_files(["x.conll"], ReadOptions(**options))[0]
    if not options.get("with_tags", True):
        return [" ".join(e.tokens) for e in examples]
    return [" ".join(f"{t}/{g}" for t, g in zip(e.tokens, e.tags, strict=True)) for e in examples]


def message(text: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(text, **options)
    return str(caught.value)


EU = ["EU/B-ORG rejects/O German/B-MISC call/O", "Peter/B-PER Blackburn/I-PER"]
SAMPLES = {
    "CoNLL-2003, chunks with I-": (
        "-DOCSTART- -X- O O\n\nEU NNP I-NP B-ORG\nrejects VBZ I-VP O\nGerman JJ I-NP B-MISC\ncall NN I-NP O\n\n"
        "Peter NNP I-NP B-PER\nBlackburn NNP I-NP I-PER\n",
        EU,
    ),
    "CoNLL-2003, chunks with B-": (
        "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nrejects VBZ B-VP O\nGerman JJ B-NP B-MISC\ncall NN I-NP O\n\n"
        "Peter NNP B-NP B-PER\nBlackburn NNP I-NP I-PER\n",
        EU,
    ),
    "CoNLL-2003 of Germany, with lemmas": (
        "EU EU NE I-NC B-ORG\nlehnt lehnen VVFIN B-VC O\n\n"
        "Peter Peter NE B-NC B-PER\nsagt sagen VVFIN B-VC O\nes es PPER B-NC O\n",
        ["EU/B-ORG lehnt/O", "Peter/B-PER sagt/O es/O"],
    ),
    "CoNLL-2003, a file without entities": (
        "-DOCSTART- -X- O O\n\nrejects VBZ I-VP O\nGerman JJ I-NP O\n\ncall NN B-NP O\n",
        ["rejects/O German/O", "call/O"],
    ),
    "CoNLL-2000, chunks alone": (
        "Confidence NN B-NP\nin IN B-PP\nthe DT B-NP\npound NN I-NP\n\n",
        ["Confidence/B-NP in/B-PP the/B-NP pound/I-NP"],
    ),
    "CoNLL-2002": (
        "Melbourne NP B-LOC\n( Fpa O\nAustralia NP B-LOC\n) Fpt O\n",
        ["Melbourne/B-LOC (/O Australia/B-LOC )/O"],
    ),
    "numbers first, from 1": (
        "1 EU B-ORG\n2 rejects O\n3 it O\n\n1 Peter B-PER\n2 left O\n",
        ["EU/B-ORG rejects/O it/O", "Peter/B-PER left/O"],
    ),
    "numbers first, from 0": (
        "0\tEU\tB-ORG\n1\trejects\tO\n\n0\tPeter\tB-PER\n",
        ["EU/B-ORG rejects/O", "Peter/B-PER"],
    ),
    "numbers through the file": (
        "1 EU B-ORG\n2 rejects O\n\n3 Peter B-PER\n4 left O\n",
        ["EU/B-ORG rejects/O", "Peter/B-PER left/O"],
    ),
    "numbers of documents and words": (
        "d1.1 EU B-ORG\nd1.2 rejects O\n\nd2.1 Peter B-PER\nd2.2 left O\n",
        ["EU/B-ORG rejects/O", "Peter/B-PER left/O"],
    ),
    "a number of the sentence": (
        "s1 EU B-ORG\ns1 rejects O\ns1 it O\n\ns2 Peter B-PER\ns2 left O\ns2 us O\n",
        ["EU/B-ORG rejects/O it/O", "Peter/B-PER left/O us/O"],
    ),
    "a source after the tags": (
        "EU B-ORG news\nrejects O news\n\nPeter B-PER web\nleft O web\n",
        ["EU/B-ORG rejects/O", "Peter/B-PER left/O"],
    ),
    "the tags first": (
        "B-ORG EU NNP\nO rejects VBZ\nO it PRP\nB-PER Peter NNP\nO left VBD\n",
        ["EU/B-ORG rejects/O it/O Peter/B-PER left/O"],
    ),
    "GermEval without inner entities": (
        "#\thttp://de.wikipedia.org/wiki/Korfmann [2009-10-17]\n"
        "1\tAufgrund\tO\tO\n2\tseiner\tO\tO\n3\tInitiative\tO\tO\n"
        '4\tTroia\tB-LOC\tO\n\n#\thttp://a.de\t[2010]\n1\tBonn\tB-LOC\tO\n2\t"\tO\tO\n',
        ["Aufgrund/O seiner/O Initiative/O Troia/B-LOC", 'Bonn/B-LOC "/O'],
    ),
    "WNUT with tabs, hashtags and addresses": (
        "@paulwalk\tO\n#Empire\tB-location\nhttp://t.co/x\tO\n\n#nowplaying\tO\nIt\tO\n\n#\tO\n1\tO\n",
        ["@paulwalk/O #Empire/B-location http://t.co/x/O", "#nowplaying/O It/O", "#/O 1/O"],
    ),
    "WikiAnn": ("en:London B-LOC\nen:( O\n\nen:Peter B-PER\n", ["en:London/B-LOC en:(/O", "en:Peter/B-PER"]),
    "MultiCoNER": (
        "# id 1234 domain=en\nthe _ _ O\nBank _ _ B-ORG\n\n# id 1235 domain=en\nParis _ _ B-LOC\n",
        ["the/O Bank/B-ORG", "Paris/B-LOC"],
    ),
    "NCBI-disease with tabs": (
        "Identification\tO\nof\tO\nAPC2\tB-Disease\n,\tO\n\n",
        ["Identification/O of/O APC2/B-Disease ,/O"],
    ),
    "a table with a header": ("Token\tPOS\tTag\nEU\tNNP\tB-ORG\nrejects\tVBZ\tO\n", ["EU/B-ORG rejects/O"]),
    "KLUE, by characters with spaces": (
        "## klue-ner-v1_train_00000-nsmc\t<영화:PS> 가\n영\tB-PS\n화\tI-PS\n \tO\n가\tO\n\n"
        "## klue-ner-v1_train_00001\t좋다 !\n좋\tO\n다\tO\n \tO\n!\tO\n",
        ["영/B-PS 화/I-PS  /O 가/O", "좋/O 다/O  /O !/O"],
    ),
    "MSRA, by characters": ("当 O\n希 B-LOC\n望 I-LOC\n\n1 O\n2 O\n", ["当/O 希/B-LOC 望/I-LOC", "1/O 2/O"]),
    "Weibo, characters with numbers": (
        "科0 O\n技1 O\n张0 B-PER.NAM\n三1 I-PER.NAM\n\n全0 O\n方1 O\n",
        ["科0/O 技1/O 张0/B-PER.NAM 三1/I-PER.NAM", "全0/O 方1/O"],
    ),
    "a name of the document, and offsets, before the token": (
        "a.txt 0 2 EU B-ORG\na.txt 3 10 rejects O\na.txt 11 13 it O\n\nb.txt 0 5 Peter B-PER\nb.txt 6 10 left O\n",
        ["EU/B-ORG rejects/O it/O", "Peter/B-PER left/O"],
    ),
    "scores before the token": (
        "0.93 EU B-ORG\n0.5 rejects O\n1 it O\n\n0.7 Peter B-PER\n0.7 left O\n",
        ["EU/B-ORG rejects/O it/O", "Peter/B-PER left/O"],
    ),
    "IOB1": ("EU NNP I-ORG\nUN NNP B-ORG\nsay VB O\n\nit PRP O\n", ["EU/I-ORG UN/B-ORG say/O", "it/O"]),
    "tabs with empty cells": ("EU\t\tB-ORG\t\tx\n\tVBZ\tO\tp q\t\nit\tPRP\tO\t\ty\n", ["EU/B-ORG /O it/O"]),
    "a single row": ("EU NNP B-ORG\n", ["EU/B-ORG"]),
    "numbers that are the tokens": ("1 O\n2 O\n3 O\n", ["1/O 2/O 3/O"]),
    "tokens that look like tags": ("O O\nB-PER O\nO O\n", ["O/O B-PER/O O/O"]),
    "a gold and an equal column": ("EU B-ORG B-ORG\nit O O\n", ["EU/B-ORG it/O"]),
    "columns of flags": (
        "EU 1 0 B-ORG\nsays 0 0 O\nso 0 1 O\n\nPeter 1 0 B-PER\n",
        ["EU/B-ORG says/O so/O", "Peter/B-PER"],
    ),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_columns_of(name):
    text, expected = SAMPLES[name]
    assert read(text) == expected


@pytest.mark.parametrize("name", SAMPLES)
def test_the_same_tokens_are_read_without_tags(name):
    Path("x.conll").write_text(SAMPLES[name][0], encoding="utf-8")
    found, without = (read_files(["x.conll"], ReadOptions(with_tags=with_tags))[0] for with_tags in (True, False))
    assert [e.tokens for e in without] == [e.tokens for e in found]


# Two readings, or none


def test_outer_and_inner_tags_are_refused():
    text = "1\tDie\tO\tO\n2\tTU\tB-ORG\tO\n3\tDarmstadt\tI-ORG\tB-LOC\n"
    assert message(text) == (
        "x.conll:2: columns 2 and 3 (from 0) may hold the tags: 'TU' has 'B-ORG' in column 2 and 'O' in column 3. "
        "Set data.tag_column to one of them"
    )
    assert read(text, tag_column="2") == ["Die/O TU/B-ORG Darmstadt/I-ORG"]
    assert read(text, tag_column="-1") == ["Die/O TU/O Darmstadt/B-LOC"]
    assert read(text, with_tags=False) == ["Die TU Darmstadt"]


def test_a_gold_and_a_predicted_column_are_refused():
    assert message("EU B-ORG O\nit O O\nUN B-ORG B-PER\n").startswith(
        "x.conll:1: columns 1 and 2 (from 0) may hold the tags"
    )


def test_many_columns_of_tags_under_a_header_are_told_by_name():
    text = (
        "TOKEN\tNE-COARSE-LIT\tNE-COARSE-METO\tNE-NESTED\tMISC\n# hipe2022:document_id = a b\n"
        "Wien\tB-loc\tO\tO\t_\n# segment = _\nund\tO\tO\tB-x\tEndOfLine\n\n"
        "# hipe2022:document_id = c\ner\tO\tB-org\tO\t_\n"
    )
    assert message(text) == (
        "x.conll:3: columns 1 ('NE-COARSE-LIT'), 2 ('NE-COARSE-METO') and 3 ('NE-NESTED') (from 0) may hold the tags: "
        "'Wien' has 'B-loc' in column 1 and 'O' in column 2. Set data.tag_column to one of them"
    )
    assert read(text, tag_column="NE-COARSE-LIT") == ["Wien/B-loc und/O", "er/O"]


def test_a_single_row_tells_no_number_from_a_token():
    assert message("1 EU B-ORG\n") == (
        "x.conll:1: columns 0 and 1 (from 0) may hold the tokens: '1' in column 0 and 'EU' in column 1. "
        "Set data.token_column to one of them"
    )
    assert read("1 EU B-ORG\n", token_column="1") == ["EU/B-ORG"]
    assert read("1 EU B-ORG\n", token_column="0") == ["1/B-ORG"]


def test_a_few_equal_cells_tell_no_source_from_a_token():
    assert message("news EU B-ORG\nnews says O\n").startswith("x.conll:1: columns 0 and 1 (from 0) may hold the tokens")
    assert read("news EU B-ORG\nnews says O\n" * 3) == ["EU/B-ORG says/O EU/B-ORG says/O EU/B-ORG says/O"]


@pytest.mark.parametrize("typo", ["B_PER", "PER", "b-PER", "B", "_", ""])
def test_a_misspelt_tag_never_leads_to_another_column(typo):
    rows = "EU\tNNP\tB-NP\tB-ORG\nrejects\tVBZ\tB-VP\tO\nPeter\tNNP\tB-NP\t{}\nleft\tVBD\tB-VP\tO\n"
    assert message(rows.format(typo)) == (
        f"x.conll:3: {typo!r} is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as 'B-PER'. "
        "Is it column 2 (from 0)? Set data.tag_column"
    )


def test_rows_of_other_lengths_where_both_columns_are_given():
    text = "EU x B-ORG\nrejects O\n\nit a b c O\n"
    assert read(text, token_column="0", tag_column="-1") == ["EU/B-ORG rejects/O", "it/O"]
    assert message(text, token_column="0", tag_column="2") == (
        "x.conll:2: data.tag_column is 2, but the line has 2 columns (counted from 0)\n"
        "x.conll:4: 'b' is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as 'B-PER'"
    )
    assert message("EU x B-ORG\nit y O\nO\n", token_column="0", tag_column="-1") == (
        "x.conll:3: found one column only, 'O', expected a token and a tag"
    )
    assert message(text, token_column="0").startswith("x.conll:2: 2 columns where line 1 has 3: 'rejects O'")


def test_a_header_of_another_length():
    assert message("word ner\nEU NNP B-ORG\nit PRP O\n") == (
        "x.conll:2: 3 columns where the header in line 1 has 2: 'EU NNP B-ORG'"
    )


def test_a_sentence_with_a_bad_row_is_a_bad_record():
    text = "EU B-ORG\nit\n\nA O\n\nB X-PER\nC Y-PER\n\nD O\n"
    assert message(text) == (
        "x.conll:2: 1 column where line 1 has 2: 'it'. Is a column missing?\n"
        "x.conll:6: 'X-PER' is not a tag: expected 'O' or B-, I-, E- or S- and a type, such as 'B-PER'"
    )
    assert read(text, on_bad_record="skip") == ["A/O", "D/O"]


# Comments without tags


def test_a_comment_with_as_many_fields_as_columns_is_no_token():
    text = "# id 1234 domain=en\nthe _ _ DT\nBank _ _ NN\n\n# id 1235 domain=en\n#Paris _ _ NN\n# _ _ NN\n"
    assert read(text, with_tags=False) == ["the Bank", "#Paris #"]
    assert read("# newdoc\nthe\n\n# id 2\n#tag\nthe\n", with_tags=False) == ["the", "#tag the"]
    assert read("# newdoc\nthe DT\na DT\n\n# two\nthe DT\n#tag NN\n", with_tags=False) == ["the a", "the #tag"]


# Tags without prefixes, and those of BILOU and BMES


def test_bilou_and_bmes_are_read_as_bioes(caplog):
    assert read("A B-X\nb I-X\nc L-X\nd U-Y\n") == ["A/B-X b/I-X c/E-X d/S-Y"]
    assert caplog.messages == [
        "note: x.conll: 2 tags of BILOU or BMES are read as those of BIOES: "
        "x.conll:3 'L-X' as 'E-X'; x.conll:4 'U-Y' as 'S-Y'"
    ]
    assert read("A B-X\nb M-X\nc E-X\nd S-Y\n") == ["A/B-X b/I-X c/E-X d/S-Y"]
    assert read("A B-X\nb M-X\nc E-X\nd W-Y\n") == ["A/B-X b/I-X c/E-X d/S-Y"]


def test_tags_without_prefixes(caplog):
    text = "EU NNP ORG\nof IN ORG\nthe DT O\nsays VB O\nit PRP O\n\nBonn NNP geo-loc\nis VBZ O\nso RB O\n"
    assert read(text) == ["EU/I-ORG of/I-ORG the/O says/O it/O", "Bonn/I-geo-loc is/O so/O"]
    assert caplog.messages == [
        "warning: x.conll: 3 tags without prefixes are read with I-, so spans of one type that touch are one: "
        "x.conll:1 'ORG' as 'I-ORG'; x.conll:2 'ORG' as 'I-ORG'; x.conll:7 'geo-loc' as 'I-geo-loc'"
    ]
    assert read(text.replace("\n", " x\n").replace("\n x", "\n"), tag_column="2")[1] == "Bonn/I-geo-loc is/O so/O"
    assert read("EU B-NP ORG\nsays B-VP O\nit B-NP O\n") == ["EU/I-ORG says/O it/O"]


@pytest.mark.parametrize("tag", ["B_PER", "PER-B", "PER_I", "B", "X-PER", "b-PER", "1", "PER "])
def test_what_looks_like_a_misspelt_prefix_is_no_type(tag):
    assert message(f"EU {tag}\nsays O\nit O\n").startswith(f"x.conll:1: {tag!r} is not a tag")


def test_the_numbers_of_types_without_prefixes():
    assert read("EU 1\nit 0\nso 0\n", labels=["O", "ORG"]) == ["EU/I-ORG it/O so/O"]


# Missing borders of sentences


def test_a_column_that_numbers_sentences_is_told_where_no_blank_line_does():
    text = "0\tEU\tB-ORG\n0\trejects\tO\n1\tPeter\tB-PER\n1\tleft\tO\n"
    assert message(text).startswith(
        "x.conll:1: found no blank line between sentences, but column 0 (from 0) seems to number them. Put blank lines "
    )
    assert read(text, format="csv") == ["EU/B-ORG rejects/O", "Peter/B-PER left/O"]
    assert read(text, token_column="1", tag_column="2") == ["EU/B-ORG rejects/O Peter/B-PER left/O"]


def test_long_sentences_between_blank_lines_are_not_warned_about(caplog):
    assert len(read("x O\ny O\n" * 60 + "\nx O\n")) == 2
    assert caplog.messages == []


def test_a_sentence_of_thousands_of_tokens_is_warned_about(caplog):
    assert len(read("x O\ny O\n" * 501)) == 1
    assert caplog.messages == [
        "warning: x.conll: 1 sentences of more than 100 tokens (if the file lacks blank lines between its sentences, "
        "put them in, or set data.format csv if a column numbers the sentences): x.conll:1 1,002 tokens"
    ]
