"""The architecture, read from the imports: layers, few doors to third parties, a loop that fits on a few pages."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "nerloop"

# Bottom up. What is in one layer imports only from layers below, and from itself.
LAYERS = [
    {"types", "errors", "libc"},
    {"dropout", "embedding", "graphs", "kernels", "layout", "plugins", "schedule", "store", "tags", "weights"},
    {"attention", "fusion"},
    {"data", "alignment", "batching", "collators", "decoding", "evaluators"},
    {"config"},
    {"settings", "hardware", "inspection", "interruption", "lock", "model", "profiling"},
    {"features", "probe", "optimizer"},
    {"checkpoint", "descent", "inference", "demo", "contracts", "pipeline_score"},
    {"runs", "report"},
    {"tracking"},
    {"task"},
    {"finish"},
    {"train", "predict", "convert", "inspect"},
]
# Within a layer, all the same: importer -> imported.
ALLOWED: dict[str, set[str]] = {}

# Third party -> the files that may import it.
DOORS = {
    "jsonargparse": {"settings.py"},
    "datasets": {"data/hub.py"},
    "pyarrow": {"data/stored.py", "data/tables.py", "features.py", "store.py"},
    "seqeval": {"evaluators/seqeval.py"},
    "safetensors": {"checkpoint.py"},
    "tensorboard": {"tracking.py"},
    "torch.utils.tensorboard": {"tracking.py"},
    "tokenizers": {"demo", "model.py"},  # model.py: a tokenizer that ignores add_prefix_space is mended
    "tqdm": {"tracking.py"},
    "yaml": {"settings.py", "runs.py"},
}
MAX_LINES_OF_THE_LOOP = 250


def imports_of(path: Path) -> set[str]:
    """Return the dotted names that a file imports, wherever in it: "from a import b" gives both "a" and "a.b"."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import, which this test does not follow"
            found |= {node.module or ""} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def unit_of(path: Path) -> str:
    """Return what the layers speak of: the module at the top level, or the package that a file lies in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


IMPORTS = {path: imports_of(path) for path in sorted(PACKAGE.rglob("*.py"))}
UNITS = {unit_of(path) for path in IMPORTS} - {"__init__"}
LAYER_OF = {unit: i for i, layer in enumerate(LAYERS) for unit in layer}


def edges() -> set[tuple[str, str]]:
    """Return who imports whom among the units of the package."""
    found = set()
    for path, names in IMPORTS.items():
        ours = {name.split(".")[1] for name in names if name.startswith("nerloop.")}
        found |= {(unit_of(path), unit) for unit in ours & UNITS if unit != unit_of(path)}
    return found


def test_every_file_of_the_package_is_looked_at():
    looked_at = {path.relative_to(PACKAGE).as_posix() for path in IMPORTS}
    assert len(looked_at) > 25
    assert {"train.py", "data/hub.py", "demo/corpus.py", "alignment/windows.py", "__init__.py"} <= looked_at
    on_disk = {p.as_posix() for p in PACKAGE.glob("**/*") if p.suffix == ".py"}
    assert on_disk == {path.as_posix() for path in IMPORTS}


def test_most_imports_between_modules_are_seen():
    assert len(edges()) > 60
    assert {("train", "task"), ("probe", "alignment"), ("task", "demo"), ("finish", "report")} <= edges()


def test_every_module_has_a_layer():
    assert UNITS - set(LAYER_OF) == set()


def test_no_module_is_in_two_layers():
    assert sum(map(len, LAYERS)) == len(LAYER_OF)


def test_no_layer_imports_a_higher_one():
    assert sorted(e for e in edges() if LAYER_OF[e[0]] < LAYER_OF[e[1]]) == []


def test_modules_of_one_layer_do_not_import_each_other():
    beside = [(a, b) for a, b in edges() if LAYER_OF[a] == LAYER_OF[b] and b not in ALLOWED.get(a, set())]
    assert sorted(beside) == []


def test_every_exception_is_in_use():
    assert {(a, b) for a, units in ALLOWED.items() for b in units} <= edges()


def test_the_lowest_layer_imports_nothing_of_ours():
    assert sorted(e for e in edges() if e[0] in LAYERS[0]) == []


@pytest.mark.parametrize("third_party", DOORS)
def test_each_third_party_has_few_doors(third_party):
    importers = {
        path.relative_to(PACKAGE)
        for path, names in IMPORTS.items()
        if any(name == third_party or name.startswith(f"{third_party}.") for name in names)
    }
    doors = {Path(door) for door in DOORS[third_party]}
    assert {p for p in importers if p not in doors and p.parent not in doors} == set()


@pytest.mark.parametrize("third_party", sorted(set(DOORS) - {"tensorboard"}))
def test_each_door_is_in_use(third_party):
    names = {name for found in IMPORTS.values() for name in found}
    assert any(name == third_party or name.startswith(f"{third_party}.") for name in names)


def test_every_third_party_is_a_declared_dependency():
    import sys
    import tomllib

    pyproject = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    declared = {d.split("[")[0].split(">")[0].split("<")[0].split("=")[0] for d in pyproject["project"]["dependencies"]}
    imported = {name.partition(".")[0] for names in IMPORTS.values() for name in names}
    third_parties = imported - set(sys.stdlib_module_names) - {"nerloop"}
    assert {"torch", "numpy", "yaml"} <= third_parties
    of_others = {"yaml": "pyyaml", "huggingface_hub": "transformers"}  # comes along
    assert {of_others.get(name, name) for name in third_parties} <= declared


def test_the_loop_fits_on_a_few_pages():
    num_lines = len((PACKAGE / "train.py").read_text(encoding="utf-8").splitlines())
    assert 100 < num_lines <= MAX_LINES_OF_THE_LOOP
