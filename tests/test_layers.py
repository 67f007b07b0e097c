"""The architecture, read from the imports: layers, no circles, few doors to third parties."""

from __future__ import annotations

import ast
import graphlib
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "nerloop"

# Bottom up. What is in one layer imports only from layers below and from its own, without circles.
LAYERS = [
    {"types", "errors", "tags", "plugins"},
    {"config"},
    {"data", "alignment", "batching", "collators", "kernels", "decoding", "evaluators", "objectives"},
    {"model", "optim", "distributed"},
    {"inspection", "evaluation", "run", "demo", "contracts", "cli"},
    {"training", "experiments", "exporting", "serving"},
    {"serve", "train", "compare", "tune", "predict", "export", "convert", "inspect", "evaluate", "push", "__main__"},
]

# Third party -> the folders and files that may import it.
DOORS = {
    "jsonargparse": {"config/parse.py"},
    "fastapi": {"serving/app.py"},
    "prometheus_client": {"serving/metrics.py"},
    "pydantic": {"serving/app.py"},
    "starlette": {"serving/app.py"},
    "uvicorn": {"serving/server.py"},
    "datasets": {"data/hub.py"},
    "huggingface_hub": {"data/hub.py", "evaluation/model_card.py", "push.py", "run/logging.py"},
    "pyarrow": {"data", "data/readers/tables.py", "batching/features.py", "batching/targets.py"},
    "regex": {"data/segmentation.py"},
    "seqeval": {"evaluators/seqeval.py"},
    "safetensors": {"run"},
    "spacy": {"data/readers/docbin.py"},
    "tensorboard": {"run/tracking.py"},
    "torch.utils.tensorboard": {"run/tracking.py", "experiments/trials.py"},
    "tokenizers": {"demo", "model/load.py"},  # model: a tokenizer that ignores add_prefix_space is mended
    "onnxruntime": {"exporting/formats.py", "model/runtimes.py"},
    "openvino": {"exporting/formats.py", "model/runtimes.py"},
    "optuna": {"experiments/study.py"},
    "scipy": {"experiments/statistics.py", "evaluation/calibration.py"},
    "tqdm": {"run", "experiments/runner.py", "experiments/search.py"},
    "yaml": {"config", "run"},
}


def module_of(path: Path) -> str:
    """Return the dotted name of a file: nerloop/data/__init__.py -> nerloop.data."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


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


IMPORTS = {module_of(path): imports_of(path) for path in sorted(PACKAGE.rglob("*.py"))}
PATHS = {module_of(path): path.relative_to(PACKAGE) for path in sorted(PACKAGE.rglob("*.py"))}
LAYER_OF = {unit: i for i, layer in enumerate(LAYERS) for unit in layer}


def unit_of(module: str) -> str:
    """Return what the layers speak of: the module at the top level, or the folder that a module is in."""
    return module.split(".")[1]


def module_edges() -> dict[str, set[str]]:
    """Return which modules each module imports. The name `a.b` of a module also runs the package `a`."""
    edges: dict[str, set[str]] = {}
    for module, names in IMPORTS.items():
        found = {name for name in names if name in IMPORTS}
        # "from nerloop.data import hub" names the package only on the way to its module.
        ways = {name for name in found if any(other.startswith(f"{name}.") for other in found)}
        used = {name for name in ways if any(n.rpartition(".")[0] == name and n not in IMPORTS for n in names)}
        edges[module] = (found - ways | used) - {module, "nerloop"}
    return edges


def unit_edges() -> set[tuple[str, str]]:
    """Return which top-level modules and folders import which."""
    pairs = {(unit_of(a), unit_of(b)) for a, bs in module_edges().items() if a != "nerloop" for b in bs}
    return {(a, b) for a, b in pairs if a != b}


def circle_in(edges: Iterable[tuple[str, str]]) -> list[str]:
    """Return the modules of a circle, none if there is none."""
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for a, b in edges:
        sorter.add(a, b)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def test_every_file_of_the_package_is_examined():
    assert len(IMPORTS) > 60
    assert {"nerloop.train", "nerloop.data.hub", "nerloop.demo.corpus", "nerloop.alignment.windows"} <= IMPORTS.keys()


def test_imports_inside_and_between_folders_are_seen():
    assert len(unit_edges()) > 40
    assert {("train", "training"), ("model", "kernels"), ("training", "demo")} <= unit_edges()
    assert "nerloop.data.arrow_cache" in module_edges()["nerloop.data.cached_examples"]
    assert "nerloop.model.cu_seqlens" in module_edges()["nerloop.model.packing"]


def test_every_top_level_entry_has_one_layer():
    assert {unit_of(module) for module in IMPORTS if module != "nerloop"} == set(LAYER_OF)
    assert sum(map(len, LAYERS)) == len(LAYER_OF)


def test_no_layer_imports_a_higher_one():
    assert sorted((a, b) for a, b in unit_edges() if LAYER_OF[a] < LAYER_OF[b]) == []


def test_folders_import_each_other_without_a_circle():
    assert circle_in(unit_edges()) == []


def test_modules_import_each_other_without_a_circle():
    assert circle_in((a, b) for a, bs in module_edges().items() for b in bs) == []


def test_a_circle_is_found():
    assert circle_in([("a", "b"), ("b", "c"), ("c", "a")]) != []


def test_commands_do_not_import_each_other():
    commands = LAYERS[-1]
    assert sorted((a, b) for a, b in unit_edges() if a in commands and b in commands) == []


@pytest.mark.parametrize("third_party", DOORS)
def test_each_third_party_has_few_doors(third_party):
    importers = {
        PATHS[module]
        for module, names in IMPORTS.items()
        if any(name == third_party or name.startswith(f"{third_party}.") for name in names)
    }
    doors = {Path(door) for door in DOORS[third_party]}
    assert {p for p in importers if p not in doors and p.parent not in doors} == set()
    assert importers or third_party == "tensorboard"


def test_every_third_party_is_a_declared_dependency():
    pyproject = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    project = pyproject["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *extras["spacy"], *extras["tune"], *extras["export"], *extras["serve"]]
    declared = {d.split("[")[0].split(">")[0].split("<")[0].split("=")[0] for d in needed}
    imported = {name.partition(".")[0] for names in IMPORTS.values() for name in names}
    third_parties = imported - set(sys.stdlib_module_names) - {"nerloop"}
    assert {"torch", "numpy", "yaml"} <= third_parties
    of_others = {"yaml": "pyyaml", "prometheus_client": "prometheus-client"}
    of_others |= {"huggingface_hub": "transformers", "pydantic": "fastapi", "starlette": "fastapi"}  # come along
    assert {of_others.get(name, name) for name in third_parties} <= declared
