"""A demo that needs no network: a corpus written by rules, and an encoder that learns it from scratch in a minute.

>>> from nerloop.demo import build_config, build_tokenizer, splits
>>> corpus = splits()
>>> tokenizer = build_tokenizer(corpus["train"])
>>> config = build_config(tokenizer)
"""

from nerloop.demo.corpus import splits
from nerloop.demo.encoder import build_config, build_tokenizer

# fmt: off
SENTENCE = (
    "Detective", "Ilse", "Thorwald", "of", "Vellingby", ",", "near", "Preston", ",", "said", "on", "Friday", "that",
    "Judge", "Preston", "had", "jailed", "a", "Polish", "sailor", "for", "fraud", "against", "Quillon", "Motors", ".",
)
# fmt: on
"""A sentence of no split: Preston is a town, then a judge; train never sees Ilse, Thorwald, Vellingby and Quillon."""

__all__ = ["SENTENCE", "build_config", "build_tokenizer", "splits"]
