"""Which encoders can be packed, and how? Asks a small random model of each kind of encoder, prints the table.

    python tests/benchmarks/architectures.py --json architectures.json

The check is the one that a training runs at its start (`nerloop.model.compat`): it looks at logits, not at names.
"""

import argparse
import sys
import warnings
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import transformers
from conftest import build_tiny_model
from harness import report
from transformers.models.auto.modeling_auto import MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES

from nerloop import demo, plugins
from nerloop.errors import NerloopError
from nerloop.model.compat import choose_collator

ENCODERS = """
    albert bert big_bird bros camembert canine convbert data2vec-text deberta deberta-v2 distilbert electra
    ernie esm esmc flaubert fnet funnel gte ibert jina_embeddings_v3 layoutlm longformer luke markuplm megatron-bert
    mobilebert modernbert mpnet mra mt5 nezha nomic_bert nystromformer qdqbert rembert roberta roberta-prelayernorm
    roc_bert roformer squeezebert t5 umt5 xlm xlm-roberta xlm-roberta-xl xlnet xmod yoso
""".split()  # noqa: SIM905 (a list of names is easier to read so)
HOW = {
    "unpadded": "one row without padding",
    "added_mask": "rows with an added mask",
    "block_mask": "rows with a block mask",
    "pad": "padded: packed sentences would see each other, or the model takes no positions",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--kinds",
        nargs="*",
        default=[kind for kind in ENCODERS if kind in MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES],
    )
    parser.add_argument("--json", metavar="FILE", help="write what was found and the setting")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    transformers.logging.set_verbosity_error()
    tokenizer = demo.build_tokenizer(demo.splits()["train"][:300])
    # More positions than the probe's longest sentence needs, whichever id a model starts to count from.
    options = {"vocab_size": len(tokenizer), "max_position_embeddings": 768}
    options |= {
        f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("pad", "bos", "eos", "cls", "sep")
    }
    found: dict[str, list[str]] = defaultdict(list)
    reasons = {}
    for kind in arguments.kinds:
        try:
            model = build_tiny_model(kind, **options)
            collator, reason = choose_collator(plugins.build("collator", "pack", tokenizer), model, tokenizer)
        except NerloopError as error:
            found["fails"].append(kind)
            reasons[kind] = str(error)
            continue
        except Exception as error:  # a configuration that can't be made small by the usual names
            found["not tried"].append(kind)
            reasons[kind] = f"{type(error).__name__}: {' '.join(str(error).split())[:150]}"
            continue
        found[getattr(collator, "layout", "pad")].append(kind)
        reasons[kind] = reason
        print(f"{kind}: {getattr(collator, 'layout', 'pad')} {reason}", file=sys.stderr, flush=True)
    print("| how | encoders |\n|---|---|")
    for how in (*HOW, "fails", "not tried"):
        if found[how]:
            print(f"| {HOW.get(how, how)} | {', '.join(f'`{kind}`' for kind in found[how])} |")
    report({"found": found, "reasons": reasons}, arguments.json)


if __name__ == "__main__":
    main()
