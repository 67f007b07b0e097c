"""What all checks share: errors of one line that name the plugin."""

from __future__ import annotations

import contextlib
import inspect
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nerloop.errors import PluginError
from nerloop.plugins import ATTRIBUTES

LONGEST = 512  # maximum subwords of a feature if the tokenizer has no limit


@contextlib.contextmanager
def checking(kind: str, build: Callable[..., Any]) -> Iterator[None]:
    """Turn any exception inside into a PluginError that names the plugin: all calls are legal, so it is its fault."""
    name = getattr(build, "__qualname__", type(build).__name__)
    is_plugin = all(hasattr(build, attribute.partition("(")[0]) for attribute in ATTRIBUTES[kind])
    if is_plugin and not inspect.isclass(build):
        raise PluginError(f"{kind} {name}: found an object, expected the class, or a function that builds it")
    try:
        yield
    except PluginError as error:
        raise PluginError(f"{kind} {name}: {error}") from error
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise PluginError(f"{kind} {name}: {reason} ({Path(at.filename).name}:{at.lineno})") from error


def require(is_right: object, problem: str) -> None:
    """Raise PluginError with `problem` unless `is_right`."""
    if not is_right:
        raise PluginError(problem)
