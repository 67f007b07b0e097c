"""Errors of checks, with the name of the plugin in front."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nerloop.errors import PluginError

if TYPE_CHECKING:
    pass


LONGEST = 512  # subwords of a feature, where the tokenizer knows no limit


@contextlib.contextmanager
def checking(kind: str, build: Callable[..., Any]) -> Iterator[None]:
    """Name the plugin in whatever is raised inside: it is its fault, since all that it is asked is legal."""
    name = getattr(build, "__qualname__", type(build).__name__)
    try:
        yield
    except PluginError as error:
        raise PluginError(f"{kind} {name}: {error}") from error
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(f"{kind} {name}: {reason} ({Path(at.filename).name}:{at.lineno})") from error


def require(is_right: object, problem: str) -> None:
    """Raise PluginError with the problem unless something is right."""
    if not is_right:
        raise PluginError(problem)
