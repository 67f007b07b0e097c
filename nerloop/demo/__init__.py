"""A demo that needs no network: a generated corpus, and a small encoder that learns it from scratch in a minute.

>>> from nerloop.demo import build_config, build_tokenizer, splits
>>> corpus = splits()
>>> tokenizer = build_tokenizer(corpus["train"])
>>> config = build_config(tokenizer)
"""

from nerloop.demo.corpus import splits
from nerloop.demo.encoder import build_config, build_tokenizer, new_encoder

# fmt: off
SENTENCE = (
    "Detective", "Ilse", "Thorwald", "of", "Vellingby", ",", "near", "Preston", ",", "said", "on", "Friday", "that",
    "Judge", "Preston", "had", "jailed", "a", "Polish", "sailor", "for", "fraud", "against", "Quillon", "Motors", ".",
)
# fmt: on
"""A sentence in none of the splits. Preston is a town first, then a judge. Ilse, Thorwald, Vellingby and Quillon are
not in the training split."""

__all__ = ["SENTENCE", "build_config", "build_tokenizer", "new_encoder", "splits"]
