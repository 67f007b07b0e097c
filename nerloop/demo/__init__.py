"""A demo that needs no network: a corpus written by rules, and an encoder that learns it from scratch in a minute.

>>> from nerloop.demo import build_config, build_tokenizer, splits
>>> corpus = splits()
>>> tokenizer = build_tokenizer(corpus["train"])
>>> config = build_config(tokenizer)
"""

from nerloop.demo.corpus import splits
from nerloop.demo.encoder import build_config, build_tokenizer

LEARNING_RATE = 3e-3
EPOCHS = 5
BATCH_SIZE = 32
"""What random weights want instead of the settings for fine-tuning."""

SENTENCE = tuple(
    "Karin Thorberg , who left Leeds for the University of Brelling in May , told the Polish Gazette that Leeds "
    "had sold her shares in Quillon Motors .".split()
)
"""A sentence of no split: Leeds is a town, then a club; Thorberg and Brelling are in no list."""

__all__ = ["BATCH_SIZE", "EPOCHS", "LEARNING_RATE", "SENTENCE", "build_config", "build_tokenizer", "splits"]
