"""Check a decoding: one label a token, independent of the other sentences."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np

from nerloop.contracts.checking import checking, require
from nerloop.decoding import Decoding
from nerloop.errors import shorten
from nerloop.tags import Scheme

# Label sets by scheme, and a legal sequence of each.
LEGAL = {
    Scheme.IOB1: {"O": "O O", "O I-PER": "I-PER I-PER O I-PER",
                  "I-A-B B-A-B I-LOC O B-LOC": "I-A-B I-A-B B-A-B I-A-B I-LOC B-LOC O I-A-B"},
    Scheme.IOB2: {"O": "O O", "O B-PER": "B-PER B-PER O B-PER",
                  "I-A-B B-A-B I-LOC O B-LOC": "B-A-B I-A-B B-A-B I-A-B B-LOC I-LOC I-LOC O"},
    Scheme.BIOES: {"O": "O O", "O S-PER": "S-PER S-PER O S-PER",
                   "E-A-B I-A-B B-A-B S-A-B O S-LOC B-LOC E-LOC": "B-A-B I-A-B I-A-B E-A-B S-A-B S-LOC B-LOC E-LOC"},
    Scheme.IOE2: {"O": "O O", "O E-PER": "E-PER E-PER O E-PER",
                  "I-A-B E-A-B I-LOC O E-LOC": "I-A-B I-A-B E-A-B E-A-B I-LOC E-LOC O E-LOC"},
    Scheme.IOE1: {"O": "O O", "O I-PER": "I-PER I-PER O I-PER",
                  "I-A-B E-A-B I-LOC O E-LOC": "I-A-B I-A-B E-A-B I-A-B I-LOC E-LOC I-LOC O"},
}  # fmt: skip


def check_decoding(build: Callable[[Sequence[str], Scheme], Decoding]) -> None:
    """Raise PluginError unless a decoding returns one label a token, the same whatever else is decoded with it."""
    random = np.random.RandomState(0)
    with checking("decoding", build):
        for scheme, names, legal in ((scheme, *pair) for scheme, sets in LEGAL.items() for pair in sets.items()):
            labels = tuple(names.split())
            decoding = build(labels, scheme)
            lengths = (4, 0, 1, 30, 2, 0, 2, *([3] * 300))
            scores = [np.log(random.dirichlet(np.ones(len(labels)), size=n) + 1e-9) for n in lengths]
            scores += [np.zeros((3, len(labels))), scores[3].astype(np.float32)]
            before = copy.deepcopy(scores)
            found = decoding.decode(scores)
            require(all(map(np.array_equal, scores, before)), "decode: changes the scores that it is given")
            require(len(found) == len(scores), f"decode: found {len(found)} sentences, expected {len(scores)}")
            for ids, s in zip(found, scores, strict=True):
                is_right = np.issubdtype(ids.dtype, np.integer) and ids.shape == (len(s),)
                require(is_right, f"decode: found {ids.dtype} {ids.shape}, expected integers {(len(s),)}")
                is_right = ids.min(initial=0) >= 0 and ids.max(initial=0) < len(labels)
                require(is_right, f"decode: found {shorten(ids.tolist())}, expected 0 to {len(labels) - 1}")
            again, alone = decoding.decode(scores), [decoding.decode([s])[0] for s in scores]
            require(all(map(np.array_equal, found, again)), "decode: the same scores give other labels a second time")
            require(
                all(map(np.array_equal, found, alone)), "decode: a sentence alone gets other labels than among others"
            )
            certain = np.array([[0.0 if label == tag else -1000.0 for label in labels] for tag in legal.split()])
            tags = " ".join(labels[i] for i in decoding.decode([certain])[0])
            require(tags == legal, f"decode: found {tags}, expected {legal}, which is certain and legal in {scheme}")
