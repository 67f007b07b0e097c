"""What no file of ours does: read a pickle, run text, call somebody."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "nerloop"

FORBIDDEN_MODULES = {
    "pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "urllib", "requests", "httpx", "aiohttp",
    "ftplib", "http", "smtplib", "telnetlib", "xmlrpc", "webbrowser", "torch.hub", "torch.package",
}  # fmt: skip
FORBIDDEN_CALLS = {
    "eval", "exec", "compile", "__import__", "input", "os.system", "os.popen", "pandas.read_pickle", "torch.hub.load",
    "yaml.unsafe_load", "yaml.full_load", "yaml.load_all", "yaml.unsafe_load_all", "yaml.full_load_all",
    "torch.jit.load", "torch.export.load",
}  # fmt: skip
# What has a good reason to be where it is, and nowhere else.
ONLY_IN = {
    "socket": ("serving/server.py",),  # nerloop.serve listens; nothing else opens a connection
    "importlib.import_module": ("plugins.py",),  # the user's own plugins, by the name that the user gives
    # git, for environment.json; the compiler; the trainings of nerloop.compare
    "subprocess": ("run/environment.py", "kernels/compile.py", "experiments/runner.py"),
    "ctypes": (
        "run/malloc.py",
        "kernels/bindings.py",
        "kernels/compile.py",
    ),  # mallopt; our kernels
}
SAFE_LOADERS = {"yaml.SafeLoader", "yaml.CSafeLoader"}


def offences(source: str, name: str = "x.py") -> list[str]:
    """Return what a file of ours must not do, by line."""
    tree = ast.parse(source)
    aliases = aliases_of(tree)
    safe = SAFE_LOADERS | {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(dotted(base, aliases) in SAFE_LOADERS for base in node.bases)
    }
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found += [(node.lineno, f"import {module}") for module in modules_of(node) if is_forbidden(module, name)]
        elif isinstance(node, ast.Call):
            found += [(node.lineno, problem) for problem in problems_of(node, aliases, safe, name)]
        elif isinstance(node, ast.AnnAssign | ast.Assign) and is_true(node.value):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            found += [(node.lineno, f"{t} = True") for t in map(ast.unparse, targets) if "trust_remote_code" in t]
        elif isinstance(node, ast.arguments):
            pairs = [*zip(reversed(node.args), reversed(node.defaults)), *zip(node.kwonlyargs, node.kw_defaults)]
            found += [(a.lineno, f"{a.arg}=True") for a, d in pairs if a.arg == "trust_remote_code" and is_true(d)]
        elif isinstance(node, ast.Dict):
            keys = [k.value for k, v in zip(node.keys, node.values) if isinstance(k, ast.Constant) and is_true(v)]
            found += [(node.lineno, f"{key}: True") for key in keys if key in ("trust_remote_code", "shell")]
    return [f"{name}:{line}: {problem}" for line, problem in sorted(found)]


def problems_of(call: ast.Call, aliases: dict[str, str], safe: set[str], name: str) -> Iterator[str]:
    what = dotted(call.func, aliases)
    options = {keyword.arg: keyword.value for keyword in call.keywords}
    if what in FORBIDDEN_CALLS or what.startswith(("os.exec", "os.spawn", "os.posix_spawn")):
        yield what
    if what in ONLY_IN and name not in ONLY_IN[what]:
        yield what
    if what == "torch.load" and not is_true(options.get("weights_only")):
        yield "torch.load without weights_only=True"
    if what in ("numpy.load", "np.load") and not is_false(options.get("allow_pickle")):
        yield "numpy.load without allow_pickle=False"
    if what in ("yaml.load", "yaml.compose") and dotted(options.get("Loader"), aliases) not in safe:
        yield f"{what} without a safe loader"
    if what.split(".")[-1] in ("load_state", "save_state") and "accelerator" in what.split(".")[:-1]:
        yield f"{what}, which pickles"
    for option in ("trust_remote_code", "shell"):
        if option in options and isinstance(options[option], ast.Constant) and not is_false(options[option]):
            yield f"{option}={ast.unparse(options[option])}"
    if is_false(options.get("weights_only")):
        yield "weights_only=False"


def aliases_of(tree: ast.AST) -> dict[str, str]:
    """Return what the names that a file imports stand for: "import numpy as np" -> {"np": "numpy"}."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def dotted(node: ast.AST | None, aliases: dict[str, str]) -> str:
    """Return what a name or attribute stands for: `np.load` -> "numpy.load"; "" for anything else."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, aliases)}.{node.attr}"
    return ""


def modules_of(node: ast.Import | ast.ImportFrom) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]


def is_forbidden(module: str, name: str) -> bool:
    names = [module.rsplit(".", i)[0] for i in range(module.count(".") + 1)]
    return any(n in FORBIDDEN_MODULES or (n in ONLY_IN and name not in ONLY_IN[n]) for n in names)


def is_true(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is True


def is_false(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Constant) and node.value is False


def test_the_source_reads_no_pickle_runs_no_text_and_calls_nobody():
    sources = {p.relative_to(PACKAGE).as_posix(): p.read_text(encoding="utf-8") for p in PACKAGE.rglob("*.py")}
    assert len(sources) > 40
    assert {"train.py", "run/checkpoint.py", "data/hub.py", "config/parse.py"} <= set(sources)
    assert [problem for name, source in sorted(sources.items()) for problem in offences(source, name)] == []


def test_the_exceptions_are_in_use():
    for name, files in ONLY_IN.items():
        for file in files:
            assert any(name in found for found in offences((PACKAGE / file).read_text(encoding="utf-8"), "another.py"))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle", "import pickle as p", "from pickle import loads", "def f():\n    import dill", "import joblib",
        "import urllib.request", "from urllib import request", "import requests", "import socket", "import http.client",
        "from torch import hub", "import torch.hub", "import subprocess", "from subprocess import run",
        "eval('1')", "exec(text)", "compile(t, 'x', 'exec')", "__import__('os')", "input('sure?')",
        "import os\nos.system('ls')", "from os import system\nsystem('ls')", "import os\nos.popen('ls')",
        "import os\nos.execvp('ls', [])", "import importlib\nimportlib.import_module(name)",
        "from importlib import import_module\nimport_module(name)",
        "import torch\ntorch.load('x')", "import torch as t\nt.load('x')", "from torch import load\nload('x')",
        "import torch\ntorch.load('x', weights_only=False)", "import torch\ntorch.load('x', weights_only=flag)",
        "import numpy as np\nnp.load('x')", "import numpy as np\nnp.load('x', allow_pickle=True)",
        "import yaml\nyaml.load(t)", "import yaml\nyaml.load(t, Loader=yaml.Loader)",
        "import yaml\nyaml.unsafe_load(t)",
        "from yaml import load, FullLoader\nload(t, Loader=FullLoader)", "import yaml\nyaml.full_load(t)",
        "import yaml\nclass L(yaml.Loader): pass\nyaml.load(t, Loader=L)",
        "accelerator.load_state('x')", "self.accelerator.save_state('x')", "run(c, shell=True)", "run(c, shell=1)",
        "load(x, trust_remote_code=True)", "class C:\n    trust_remote_code: bool = True", "trust_remote_code = True",
        "def f(x, trust_remote_code=True): pass", "def f(*, trust_remote_code=True): pass",
        "load(**{'trust_remote_code': True})", "from_pretrained(x, weights_only=False)",
    ],
)  # fmt: skip
def test_the_guard_sees_an_offence(source):
    assert len(offences(source)) >= 1


@pytest.mark.parametrize(
    "source",
    [
        "import json\njson.loads(t)", "import os\nos.replace(a, b)", "import torch\ntorch.load(x, weights_only=True)",
        "import yaml\nyaml.load(t, Loader=yaml.SafeLoader)", "checkpoint.load_state(folder)", "re.compile('x')",
        "import yaml\nclass L(yaml.SafeLoader): pass\nyaml.load(t, Loader=L)", "run(c, shell=False)", "model.eval()",
        "load(x, trust_remote_code=settings.trust_remote_code)", "class C:\n    trust_remote_code: bool = False",
        "import numpy as np\nnp.load(x, allow_pickle=False)", "from huggingface_hub.errors import HfHubHTTPError",
    ],
)  # fmt: skip
def test_the_guard_sees_no_offence_where_there_is_none(source):
    assert offences(source) == []
