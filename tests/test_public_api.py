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
    """Each name that __init__.py imports for type checkers, and its module."""
    (block,) = (node for node in ast.parse(SOURCE.read_text()).body if isinstance(node, ast.If))
    return {alias.name: node.module for node in block.body for alias in node.names}


def test_import_loads_no_heavy_package() -> None:
    command = [sys.executable, "-c", LOADED]
    done = subprocess.run(command, cwd=SOURCE.parents[1], capture_output=True, text=True, check=True)
    assert not {*HEAVY} & {*json.loads(done.stdout)}


def test_names_for_type_checkers_are_those_that_load() -> None:
    assert declared() == tav_core._HOME
    assert sorted(declared()) == tav_core.__all__ == dir(tav_core)


@pytest.mark.parametrize("name", tav_core.__all__)
def test_every_public_name_loads(name: str) -> None:
    value = getattr(tav_core, name)
    assert value is getattr(import_module(f"tav_core.{tav_core._HOME[name]}"), name)


def test_an_unknown_name_raises() -> None:
    with pytest.raises(AttributeError, match="no attribute 'tuned'"):
        tav_core.tuned  # noqa: B018
