"""Upload a saved model to the hub, with its card: `python -m nerloop.push --model runs/x/model me/my-model`.

No other command uploads a model. Exit codes: 0 done, 2 bad input or a hub that refuses (one line on stderr), 130
stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerloop import cli
from nerloop.errors import ConfigError, ModelError
from nerloop.model.saved import SavedModel

if TYPE_CHECKING:
    from huggingface_hub import ModelCard

CARD = "README.md"


def main() -> None:
    """Parse the command line, upload; leave with the exit code."""
    arguments = _arguments(sys.argv[1:])
    cli.run_command(lambda: push(arguments))


def _arguments(argv: Sequence[str]) -> argparse.Namespace:
    parser = cli.Parser(
        prog="python -m nerloop.push",
        description="Upload a saved model and its card to the hub (or to $HF_ENDPOINT). `hf auth login` or $HF_TOKEN "
        "says who you are.",
    )
    parser.add_argument("name", metavar="NAME", help="repository, such as me/my-model; it is created if it is missing")
    parser.add_argument("--model", required=True, help="folder of the model")
    parser.add_argument("--private", action="store_true", help="make the repository a private one, if it is new")
    parser.add_argument("--branch", default="main", help="branch to upload to (default: main)")
    parser.add_argument("--message", default="Upload model trained with nerloop", help="commit message")
    parser.add_argument("--license", help="licence for the card, such as apache-2.0")
    parser.add_argument("--language", nargs="+", help="languages for the card, such as en de")
    parser.add_argument("--dataset", help="hub name of the training data, for the card")
    parser.add_argument("--base_model", help="hub name of the encoder, for the card, if it was loaded from a folder")
    parser.add_argument("--dry_run", action="store_true", help="print the files and the card, and send nothing")
    return parser.parse(argv)


def push(arguments: argparse.Namespace) -> None:
    """Check the model and its card, then upload both in one commit. Raises ModelError or ConfigError."""
    folder = Path(arguments.model)
    SavedModel.read_unchecked(folder)  # a folder that nerloop can't load is not worth an upload
    card = _card(folder, arguments)
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name != CARD and not p.name.startswith("."))
    if arguments.dry_run:
        for file in files:
            print(f"{file.name}  {file.stat().st_size:,} bytes")
        print(f"{CARD}\n\n{card}")
        return
    from huggingface_hub import CommitOperationAdd, HfApi, constants

    if constants.is_offline_mode():
        raise ConfigError("HF_HUB_OFFLINE is set, expected it unset: an upload needs the network")
    api = HfApi(library_name="nerloop")
    operations = [CommitOperationAdd(file.name, str(file)) for file in files]
    operations.append(CommitOperationAdd(CARD, str(card).encode()))
    with _hub_errors(arguments.name, api.endpoint):
        card.validate()
        name = api.create_repo(arguments.name, private=arguments.private or None, exist_ok=True).repo_id
        if arguments.branch != "main":
            api.create_branch(name, branch=arguments.branch, exist_ok=True)
        commit = api.create_commit(name, operations, commit_message=arguments.message, revision=arguments.branch)
    print(commit.commit_url)


def _card(folder: Path, arguments: argparse.Namespace) -> ModelCard:
    """Return the card of a model, with the metadata that the flags add. Raises ModelError or ConfigError."""
    from huggingface_hub import ModelCard

    try:
        card = ModelCard((folder / CARD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / CARD}: not a model card: {' '.join(str(error).split())[:200]}") from error
    given = {
        "license": arguments.license,
        "language": arguments.language,
        "datasets": [arguments.dataset] if arguments.dataset else None,
        "base_model": arguments.base_model,
    }
    data: Any = card.data
    for name, value in given.items():
        if value:
            setattr(data, name, value)
    for result in data.eval_results or []:
        if arguments.dataset:
            result.dataset_type = arguments.dataset
    if not data.license:
        print("nerloop: the card names no licence; --license adds one", file=sys.stderr)
    return card


@contextlib.contextmanager
def _hub_errors(name: str, endpoint: str) -> Iterator[None]:
    """Raise errors of the hub and the network as a ConfigError of one line."""
    from huggingface_hub import errors

    no_network: type[Exception] = errors.HTTPError  # type: ignore[attr-defined]  # of the HTTP library it uses

    try:
        yield
    except errors.LocalTokenNotFoundError as error:
        raise ConfigError(f"{endpoint}: not logged in; run `hf auth login` or set HF_TOKEN") from error
    except errors.HfHubHTTPError as error:
        code = error.response.status_code
        advice = {401: "; run `hf auth login` or set HF_TOKEN", 403: "; expected a token that may write there"}
        reason = error.server_message or " ".join(str(error).split())
        raise ConfigError(f"{endpoint}: refuses {name} ({code}): {reason[:200]}{advice.get(code, '')}") from error
    except errors.HFValidationError as error:
        raise ConfigError(f"NAME: found {name!r}, expected a name or owner/name: {error}") from error
    except ValueError as error:  # the card
        raise ConfigError(f"{endpoint}: refuses the card: {' '.join(str(error).split())[:300]}") from error
    except (no_network, OSError) as error:
        raise ConfigError(f"{endpoint}: can't be reached: {' '.join(str(error).split())[:200]}") from error


if __name__ == "__main__":
    main()
