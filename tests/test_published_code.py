"""What is published runs no text as code, opens no pickle, starts no process, and reaches no network."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PUBLISHED = [ROOT / "__init__.py", *sorted((ROOT / "nodes").rglob("*.py")), *sorted((ROOT / "tav_core").rglob("*.py"))]
MODULES = {
    *(
        "subprocess",
        "multiprocessing",
        "pty",
        "ctypes",
        "socket",
        "socketserver",
        "ssl",
        "asyncio",
        "ftplib",
        "smtplib",
    ),
    *("urllib", "urllib3", "requests", "httpx", "aiohttp", "http", "webbrowser", "huggingface_hub", "xmlrpc"),
    *("pickle", "_pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "code", "codeop", "runpy"),
}
BUILTINS = {"eval", "exec", "compile", "__import__", "breakpoint"}
ATTRIBUTES = {
    *("os.system", "os.popen", "os.fork", "os.putenv", "os.unsetenv", "os.startfile"),
    *("os.execv", "os.execve", "os.execvp", "os.spawnl", "os.spawnv", "os.posix_spawn"),
    *("torch.load", "torch.save", "torch.hub", "torch.jit.load", "torch.compile", "numpy.load", "np.load"),
    *("importlib.import_module", "pandas.read_pickle"),
}
CHANGES = {"update", "setdefault", "pop", "popitem", "clear"}


def dotted(node: ast.AST) -> str:
    """os.environ for that expression; empty for one that is no chain of names."""
    if isinstance(node, ast.Name):
        return node.id
    return f"{dotted(node.value)}.{node.attr}" if isinstance(node, ast.Attribute) else ""


def banned(source: str) -> list[str]:
    """What of the above a source does, as LINE: WHAT."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names if alias.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [
                name for name in whole if name in ATTRIBUTES or name.split(".")[0] in MODULES or ".environ" in name
            ]
        elif isinstance(node, ast.Name) and node.id in BUILTINS:
            names = [node.id]
        elif isinstance(node, ast.Attribute) and dotted(node) in ATTRIBUTES:
            names = [dotted(node)]
        elif isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            names = [name for name in [dotted(node.value)] if name == "os.environ"]
        elif isinstance(node, ast.Call) and dotted(node.func).startswith("os.environ."):
            names = [name for name in [dotted(node.func)] if name.split(".")[-1] in CHANGES]
        elif isinstance(node, ast.keyword) and node.arg in ("trust_remote_code", "allow_pickle"):
            names = [node.arg]
        found += [f"{getattr(node, 'lineno', 0)}: {name}" for name in names]
    return found


ALLOWED = {
    "tav_core/__init__.py": {"importlib.import_module"},  # of its own modules, whose names are written there
    "tav_core/metrics/sets.py": {"torch.save"},  # of tensors from safetensors, into memory, for a library
}


@pytest.mark.parametrize("file", PUBLISHED, ids=lambda file: str(file.relative_to(ROOT)))
def test_published_code_does_none_of_it(file: Path) -> None:
    allowed = ALLOWED.get(file.relative_to(ROOT).as_posix(), set())
    found = [line for line in banned(file.read_text(encoding="utf-8")) if line.split(": ")[1] not in allowed]
    assert found == []


def test_no_pickle_is_published() -> None:
    strange = {".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".so", ".dll", ".exe", ".sh"}
    files = [
        file for folder in ("nodes", "tav_core", "web", "example_workflows") for file in (ROOT / folder).rglob("*")
    ]
    assert [file for file in files if file.suffix in strange] == []


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')", "exec('1')", "compile('1', '', 'eval')", "__import__('os')", "import subprocess as s",
        "from urllib.request import urlopen", "import http.client", "import os; os.system('x')",
        "from os import system",
        "import pickle", "import torch; torch.load('a')", "from torch import load", "import os; os.environ['A'] = '1'",
        "import os; del os.environ['A']", "import os; os.environ.update(A='1')", "from os import environ",
        "f(trust_remote_code=True)", "import numpy as np; np.load('a', allow_pickle=True)", "f = eval",
    ],
)  # fmt: skip
def test_the_check_sees_what_it_is_to_see(source: str) -> None:
    assert banned(source)


@pytest.mark.parametrize("source", ["model.eval()", "import re; re.compile('a')", "import os; os.environ.get('A')"])
def test_the_check_lets_the_rest_pass(source: str) -> None:
    assert not banned(source)
