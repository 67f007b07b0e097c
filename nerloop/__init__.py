"""nerloop: fine-tune any encoder for named entity recognition with a loop you can read."""

__version__ = "0.1.0"
