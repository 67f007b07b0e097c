"""The checks that every plugin must pass.

To test your own plugin, two lines are enough:

    from nerloop.contracts import check_alignment
    check_alignment(MyAligner, tokenizer, ["O", "B-PER", "I-PER"])

Each check takes the class and raises PluginError, with a message of one line, at the first problem. To check a plugin
with options, pass a callable: `lambda tokenizer, labels: MyAligner(tokenizer, labels, stride=8)`.
"""

from nerloop.contracts.adaptation import check_adaptation
from nerloop.contracts.alignment import NASTY, check_alignment, nasty_examples
from nerloop.contracts.collator import check_collator
from nerloop.contracts.decoding import check_decoding
from nerloop.contracts.evaluator import check_evaluator
from nerloop.contracts.objective import check_objective

__all__ = [
    "NASTY",
    "check_adaptation",
    "check_alignment",
    "check_collator",
    "check_decoding",
    "check_evaluator",
    "check_objective",
    "nasty_examples",
]
