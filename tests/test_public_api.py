"""The public names of tav_core: complete, lazy, and free of heavy imports."""

import ast
import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import tav_core

SOURCE = Path(tav_core.__file__)
HEAVY = ("cv2", "av", "transformers", "diffusers", "matplotlib")
LOADED = "import json, sys; import tav_core; print(json.dumps(sorted(sys.modules)))"


def declared() -> dict[str, str]:
    """Each public name, and the module that has it."""
    stub = ast.parse(SOURCE.with_suffix(".pyi").read_text())
    return {alias.name: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}


def test_import_loads_no_heavy_package() -> None:
    command = [sys.executable, "-c", LOADED]
    done = subprocess.run(command, cwd=SOURCE.parents[1], capture_output=True, text=True, check=True)
    assert not {*HEAVY} & {*json.loads(done.stdout)}


def test_declared_names_are_those_that_load() -> None:
    assert sorted(declared()) == sorted(tav_core.__all__) == sorted(dir(tav_core))


@pytest.mark.parametrize("name", tav_core.__all__)
def test_every_public_name_loads(name: str) -> None:
    value = getattr(tav_core, name)
    assert value is getattr(import_module(f"tav_core.{declared()[name]}"), name)


def test_an_unknown_name_raises() -> None:
    with pytest.raises(AttributeError, match="attribute tuned"):
        tav_core.tuned  # noqa: B018
