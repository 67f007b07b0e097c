"""nerloop: fine-tune any encoder for named entity recognition with a loop you can read.

The public names are imported when they are first used, since torch takes seconds to import:

    train(config)   train as the settings say; returns what results.json holds
    load(folder)    a saved model, ready to tag: load("runs/x/model").tag("Anna Smith flew to Paris.")
    Config          the settings
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nerloop.config import Config
    from nerloop.evaluation.tagger import load
    from nerloop.train import train

__version__ = "0.1.0"
__all__ = ["Config", "__version__", "load", "train"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name == "Config":
        from nerloop.config import Config

        return Config
    if name == "load":
        from nerloop.evaluation.tagger import load

        return load
    if name == "train":  # the module, which can be called: from now on it is an attribute of the package anyway
        import nerloop.train  # noqa: F401

        return sys.modules["nerloop.train"]
    raise AttributeError(f"module 'nerloop' has no attribute {name!r}")
