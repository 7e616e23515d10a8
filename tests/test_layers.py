"""The layers of tav_core and of tav_batch: a module imports only from its own layer and from those below it."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from setuptools import find_packages

ROOT = Path(__file__).parents[1]
CORE = ROOT / "tav_core"
LAYERS = (  # from the top
    "cli", "demo", "trial", "job", "editor", "presets", "stages", "evaluation", "store", "memory", "tuning", "editing",
    "metrics", "diffusion", "models", "unet", "video", "viz", "conditioning", "checks", "atomic",
)  # fmt: skip
BATCH = ROOT / "tav_batch"  # each module is a layer
BATCH_LAYERS = (
    "cli", "driver", "report", "results", "comfy", "graph", "ray_pool", "pool", "worker", "remote_store", "plan",
    "times", "jobs", "table", "layouts", "simulate", "handout", "log", "record", "storage",
)  # fmt: skip
ENTRIES = ("__init__", "__main__")  # which import from the top
FLAT = {*ENTRIES, "editor", "job", "presets", "conditioning", "checks", "atomic"}


def modules(package: Path = CORE) -> dict[str, Path]:
    """All modules of a package by their dotted name without its own; a package in it by its own."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = path
    return found


@cache
def imports_of(name: str, of: Path = CORE) -> frozenset[str]:
    """The modules of its package that a module imports when it is loaded or later, but not for type checkers."""
    path, known, found = modules(of)[name], modules(of), set()
    package = path.relative_to(ROOT).parent.parts
    for node in _statements(ast.parse(path.read_text())):
        targets = []
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *filter(None, [node.module])])
            targets = [f"{module}.{alias.name}" for alias in node.names] + [module]
        elif isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        inside = {target.removeprefix(f"{of.name}.") for target in targets if target.startswith(f"{of.name}.")}
        submodules = inside & known.keys()
        found |= {most for most in submodules if not any(other.startswith(f"{most}.") for other in submodules)}
    return frozenset(found - {name})


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _statements(child)


def layer_of(name: str) -> str:
    return name.partition(".")[0]


def test_modules_of_the_batch_import_only_from_below() -> None:
    names = modules(BATCH).keys() - {*ENTRIES}
    assert names == {*BATCH_LAYERS}
    wrong = {name: imports_of(name, BATCH) & {*BATCH_LAYERS[: BATCH_LAYERS.index(name)]} for name in names}
    assert not {name: imported for name, imported in wrong.items() if imported}


def test_the_core_knows_the_batch_in_one_command_alone() -> None:
    texts = {name: path.read_text() for name, path in modules().items()}
    assert [name for name, text in texts.items() if "import tav_batch" in text or "from tav_batch" in text] == [
        "cli.batch"
    ]
    assert not [path for path in (ROOT / "nodes").rglob("*.py") if "tav_batch" in path.read_text()]


def test_every_module_belongs_to_a_layer() -> None:
    assert {layer_of(name) for name in modules()} == {*LAYERS, *ENTRIES}


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_from_below(layer: str) -> None:
    below = {layer, *LAYERS[LAYERS.index(layer) + 1 :]}
    wrong = {
        name: sorted(imported for imported in imports_of(name) if layer_of(imported) not in below)
        for name in modules()
        if layer_of(name) == layer
    }
    assert not {name: imported for name, imported in wrong.items() if imported}


def test_modules_import_each_other_in_no_cycle() -> None:
    left = {name: set(imports_of(name)) for name in modules()}
    while loadable := {name for name, wanted in left.items() if not wanted}:
        left = {name: wanted - loadable for name, wanted in left.items() if name not in loadable}
    assert not left, "these import each other, or what does"


def test_only_a_few_modules_lie_flat() -> None:
    assert {path.stem for path in CORE.glob("*.py")} <= FLAT


def test_setuptools_finds_every_folder() -> None:
    folders = {path.parent.relative_to(ROOT) for path in CORE.rglob("*.py")}
    assert {Path(*name.split(".")) for name in find_packages(str(ROOT), include=["tav_core*"])} == folders
    assert find_packages(str(ROOT), include=["tav_batch*"]) == ["tav_batch"]


Definition = ast.FunctionDef | ast.AsyncFunctionDef
DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
MOST_LINES_OF_A_FILE, MOST_LINES_OF_A_FUNCTION, USUAL_LINES_OF_A_FUNCTION = 250, 50, 25


def docstring_lines(node: ast.AST) -> int:
    if not isinstance(node, DOCUMENTED) or ast.get_docstring(node) is None:
        return 0
    return node.body[0].end_lineno - node.body[0].lineno + 1


def functions(package: Path) -> dict[str, int]:
    """Lines of each function without its docstring."""
    return {
        f"{name}.{node.name}:{node.lineno}": node.end_lineno - node.lineno + 1 - docstring_lines(node)
        for name, path in modules(package).items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, Definition)
    }


@pytest.mark.parametrize("package", [CORE, BATCH, ROOT / "tools"], ids=lambda package: package.name)
def test_files_are_short(package: Path) -> None:
    lines = {
        name: path.read_text().count("\n") - sum(map(docstring_lines, ast.walk(ast.parse(path.read_text()))))
        for name, path in modules(package).items()
    }
    assert not {name: count for name, count in lines.items() if count > MOST_LINES_OF_A_FILE}


@pytest.mark.parametrize("package", [CORE, BATCH], ids=lambda package: package.name)
def test_functions_are_short(package: Path) -> None:
    lines = functions(package)
    assert not {name: count for name, count in lines.items() if count > MOST_LINES_OF_A_FUNCTION}
    long = {name: count for name, count in lines.items() if count > USUAL_LINES_OF_A_FUNCTION}
    assert len(long) <= len(lines) / 10, sorted(long.items(), key=lambda item: -item[1])
