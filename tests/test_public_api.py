"""The public names of tav_core: complete, lazy, and free of heavy imports."""

import ast
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import tav_core

SOURCE = Path(tav_core.__file__)
HEAVY = ("cv2", "av", "transformers", "diffusers", "matplotlib")
LOADED = "import json, sys; import tav_core; print(json.dumps(sorted(sys.modules)))"


def declared() -> dict[str, str | None]:
    """Each public name, and the module that has it; None for a module itself."""
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
    value, module = getattr(tav_core, name), declared()[name]
    expected = getattr(import_module(f"tav_core.{module}"), name) if module else import_module(f"tav_core.{name}")
    assert value is expected


def test_version_is_that_of_the_package() -> None:
    (version,) = re.findall(r'(?m)^version = "(.*)"$', (SOURCE.parents[1] / "pyproject.toml").read_text())
    assert tav_core.__version__ == version


def test_bundled_clips_are_there() -> None:
    assert tav_core.BUNDLED_CLIPS and all(path.is_file() for path in tav_core.BUNDLED_CLIPS.values())


def test_types_are_published() -> None:
    assert SOURCE.with_name("py.typed").is_file()


def test_an_unknown_name_raises() -> None:
    with pytest.raises(AttributeError, match="attribute tuned"):
        tav_core.tuned  # noqa: B018
