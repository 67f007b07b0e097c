"""Windows of long sentences, subwords of tokens, special tokens, joining of scores."""

from __future__ import annotations

import numpy as np
import pytest

from nerloop.alignment.subwords import CHUNK, subwords_of
from nerloop.alignment.windows import Window, join_scores, special_tokens, windows_of
from nerloop.types import Feature


@pytest.mark.parametrize(
    ("num_subwords", "room", "stride", "expected"),
    [
        (5, 4, 2, [Window(0, 4, 0, 2), Window(1, 5, 2, 5)]),
        (4, 4, 2, [Window(0, 4, 0, 4)]),
        (0, 4, 2, [Window(0, 0, 0, 0)]),
        (1, 1, 0, [Window(0, 1, 0, 1)]),
        (3, 1, 0, [Window(0, 1, 0, 1), Window(1, 2, 1, 2), Window(2, 3, 2, 3)]),
        (8, 4, 0, [Window(0, 4, 0, 4), Window(4, 8, 4, 8)]),
        (9, 4, 0, [Window(0, 4, 0, 4), Window(4, 8, 4, 6), Window(5, 9, 6, 9)]),
        (10, 6, 2, [Window(0, 6, 0, 5), Window(4, 10, 5, 10)]),
        (6, 4, 3, [Window(0, 4, 0, 2), Window(1, 5, 2, 3), Window(2, 6, 3, 6)]),
    ],
)
def test_windows(num_subwords, room, stride, expected):
    assert windows_of(num_subwords, room, stride) == expected


def every_case() -> list[tuple[int, int, int]]:
    return [(n, room, stride) for n in range(40) for room in range(1, 12) for stride in range(room)]


def test_each_subword_counts_in_exactly_one_window():
    cases = every_case()
    assert len(cases) == 2640
    for case in cases:
        windows = windows_of(*case)
        assert [i for w in windows for i in range(w.own_start, w.own_stop)] == list(range(case[0])), case
        assert all(w.start <= w.own_start <= w.own_stop <= w.stop for w in windows), case


def test_all_windows_are_full_and_no_more_than_needed():
    for num_subwords, room, stride in every_case():
        windows = windows_of(num_subwords, room, stride)
        assert all(w.stop - w.start == min(room, num_subwords) for w in windows)
        assert len(windows) == max(1, 1 + -(-(num_subwords - room) // (room - stride)))


def test_a_subword_counts_where_it_stands_furthest_from_an_inner_border():
    def margin(window: Window, i: int, num_subwords: int) -> int:
        before = i - window.start if window.start else num_subwords
        behind = window.stop - 1 - i if window.stop < num_subwords else num_subwords
        return min(before, behind)

    for n, room, stride in every_case():
        windows = windows_of(n, room, stride)
        for own in windows:
            for i in range(own.own_start, own.own_stop):
                best = max(margin(w, i, n) for w in windows if w.start <= i < w.stop)
                # The middle of an overlap of odd length lies as far from either border, but for one.
                assert margin(own, i, n) >= best - 1, (n, room, stride, own, i)


def test_own_keeps_the_values_of_one_window_and_says_nothing_of_others():
    values = np.array([10, 11, 12, 13, 14])
    assert Window(1, 5, 2, 5).own(values, -1).tolist() == [-1, 12, 13, 14]
    assert Window(0, 4, 0, 2).own(values, -100).tolist() == [10, 11, -100, -100]
    assert Window(0, 0, 0, 0).own(values, -1).tolist() == []


def test_subwords_of_wordpiece(wordpiece):
    sentences = [["Brussels", "is", "big", "."], [], ["\u200e", "New", "", "\ufffd"], ["Brussels-New"]]
    found = [
        (wordpiece.convert_ids_to_tokens(ids.tolist()), of.tolist()) for ids, of in subwords_of(wordpiece, sentences)
    ]
    assert found == [
        (["Bru", "##ssels", "is", "big", "."], [0, 0, 1, 2, 3]),
        ([], []),
        (["New"], [1]),
        (["Bru", "##ssels", "-", "New"], [0, 0, 0, 0]),
    ]


def test_subwords_of_bytes(byte_level):
    found = list(subwords_of(byte_level, [["New", "New"], ["é", "", "\u200e"], []]))
    assert [byte_level.convert_ids_to_tokens(ids.tolist()) for ids, _ in found] == [
        ["ĠNew", "ĠNew"], ["Ġ", "Ã", "©", "Ġ", "â", "Ģ", "İ"], [],
    ]  # fmt: skip
    assert [of.tolist() for _, of in found] == [[0, 1], [0, 0, 0, 2, 2, 2, 2], []]


def test_subwords_are_int64_and_none_is_special(wordpiece):
    for ids, token_of in subwords_of(wordpiece, [["big"], []]):
        assert (ids.dtype, token_of.dtype) == (np.int64, np.int64)
    assert wordpiece.cls_token_id not in next(iter(subwords_of(wordpiece, [["big"]])))[0]


def test_sentences_of_several_chunks_come_in_order(wordpiece):
    sentences = [["a"] * (i % 3) for i in range(CHUNK + 5)]
    assert [len(ids) for ids, _ in subwords_of(wordpiece, sentences)] == [i % 3 for i in range(CHUNK + 5)]


def test_long_input_is_neither_cut_nor_warned_of(wordpiece):
    wordpiece.model_max_length = 8
    ((ids, _),) = subwords_of(wordpiece, [["big"] * 1000])
    assert len(ids) == 1000


def test_special_tokens(wordpiece, byte_level):
    assert special_tokens(wordpiece) == ([2], [3])  # [CLS], [SEP]
    assert special_tokens(byte_level) == ([0], [2])  # <s>, </s>


def test_special_tokens_on_one_side_or_none():
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"a": 0, "</s>": 1, "[UNK]": 2}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    assert special_tokens(PreTrainedTokenizerFast(tokenizer_object=backend)) == ([], [])
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    assert special_tokens(PreTrainedTokenizerFast(tokenizer_object=backend)) == ([], [1])


def feature(tokens, *, atom=0, examples=(0,), num_tokens=(3,)):
    n = len(tokens)
    return Feature(np.zeros(n, np.int64), np.zeros(n, np.int64), np.array(tokens), atom, examples, num_tokens)


def test_join_takes_the_scores_of_the_subword_that_decides():
    scores = np.array([[9.0, 9], [1, 2], [9, 9], [3, 4], [5, 6], [9, 9]])
    joined = join_scores([feature([-1, 0, -1, 1, 2, -1])], [scores])
    assert {i: rows.tolist() for i, rows in joined.items()} == {0: [[1, 2], [3, 4], [5, 6]]}


def test_join_gives_equal_scores_to_a_token_that_nothing_decides():
    joined = join_scores([feature([-1, 2, -1])], [np.full((3, 2), -1.5)])
    assert joined[0].tolist() == [[0, 0], [0, 0], [-1.5, -1.5]]


def test_join_puts_windows_together_in_any_order():
    windows = [feature([0, 1, -1]), feature([-1, -1, 2])]
    scores = [np.array([[1.0], [2], [9]]), np.array([[9.0], [9], [3]])]
    assert join_scores(windows, scores)[0].tolist() == [[1], [2], [3]]
    assert join_scores(windows[::-1], scores[::-1])[0].tolist() == [[1], [2], [3]]


def test_join_parts_the_sentences_of_one_atom():
    both = feature([0, 2, 3], atom=4, examples=(7, 8, 9), num_tokens=(1, 0, 3))
    joined = join_scores([both], [np.array([[1.0], [2], [3]])])
    assert {i: rows.tolist() for i, rows in joined.items()} == {7: [[1]], 8: [], 9: [[0], [2], [3]]}
    assert joined[8].shape == (0, 1)


def test_join_keeps_the_precision_of_the_scores():
    for dtype in (np.float32, np.float64):
        assert join_scores([feature([0, 1, 2])], [np.ones((3, 2), dtype)])[0].dtype == dtype
