"""A mutation run: do tests fail when the code that they test is changed?

    python -m tools.mutate tav_core.diffusion.ddim tav_core.diffusion.guidance --tests tests/diffusion tests/editing

A mutant has one operator, comparison, number or condition of one function changed. The function's code is replaced in
place, so that whoever imported it runs the mutant, and the tests run in this process. A mutant that no test notices
survives, and is printed.
"""

import argparse
import ast
import contextlib
import copy
import importlib
import inspect
import io
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

SWAPS: dict[type, type] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And},
}
PATIENCE = 10  # times as long as the tests take without a mutant


@dataclass(frozen=True)
class Mutant:
    """A changed function.

    Attributes:
        place: of the change, module:line.
        change: what was there and what is there now.
        function: whose code is replaced.
        code: the new one.
    """

    place: str
    change: str
    function: FunctionType
    code: CodeType


def mutants(module: ModuleType) -> Iterator[Mutant]:
    """All mutants of a module's functions and methods. Annotations, texts and messages of errors are left alone."""
    tree = ast.parse(inspect.getsource(module))
    for owner in (module, *(value for value in vars(module).values() if inspect.isclass(value))):
        for value in vars(owner).values():
            function = plain_function(value)
            if function is None or function.__code__.co_filename != module.__file__:
                continue
            for index, (node, change) in enumerate(changes(definition(tree, function))):
                code = compiled(tree, function, index)
                yield Mutant(f"{module.__name__}:{node.lineno}", change, function, code)


def plain_function(value: Any) -> FunctionType | None:
    """The function in a method, property or decorated function."""
    value = getattr(value, "fget", None) or getattr(value, "__func__", value)
    value = inspect.unwrap(value) if callable(value) else value
    return value if isinstance(value, FunctionType) else None


def definition(tree: ast.AST, function: FunctionType) -> ast.FunctionDef:
    """The statement that defines a function."""
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == function.__name__)
    first = function.__code__.co_firstlineno  # with its decorators
    return next(node for node in nodes if min([node.lineno, *(d.lineno for d in node.decorator_list)]) == first)


def changes(function: ast.FunctionDef) -> list[tuple[Any, str]]:
    """The nodes that can be changed, each with a text of the change, in a fixed order."""
    found = []
    for node in walk(function):
        if (new := changed(node)) is not None:
            found.append((node, f"{ast.unparse(node)}  ->  {ast.unparse(new)}"))
    return found


def walk(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below one, without annotations, decorators, defaults (which are no code), texts and what is raised."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "format_spec", "defaults", "kw_defaults"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, (ast.Raise, ast.JoinedStr, ast.Assert)):
                yield child
                yield from walk(child)


def changed(node: ast.AST) -> ast.AST | None:
    """A node with one change; None if there is none to make."""
    new: Any = copy.deepcopy(node)
    if isinstance(node, (ast.BinOp, ast.BoolOp)) and type(node.op) in SWAPS:
        new.op = SWAPS[type(node.op)]()
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPS:
        new.ops[0] = SWAPS[type(node.ops[0])]()
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.USub)):
        new = new.operand
    elif isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float)):
        new.value = not node.value if isinstance(node.value, bool) else node.value + 1
    else:
        return None
    return new


def compiled(tree: ast.AST, function: FunctionType, index: int) -> CodeType:
    """The code of a function with its change number `index`."""
    whole = copy.deepcopy(tree)
    target = changes(definition(whole, function))[index][0]
    replacement = changed(target)

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> Any:
            return ast.copy_location(replacement, node) if node is target else self.generic_visit(node)

    module = compile(ast.fix_missing_locations(Replace().visit(whole)), function.__code__.co_filename, "exec")
    original = function.__code__
    wanted = (original.co_name, original.co_firstlineno)
    return next(code for code in nested(module) if (code.co_name, code.co_firstlineno) == wanted)


def nested(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from nested(constant)


def passed(tests: list[str], seconds: int) -> bool:
    """Whether the tests pass, within so many seconds."""
    options = ["-q", "-x", "-p", "no:cacheprovider", "-m", "not slow and not soak", *tests]
    silent = io.StringIO()
    signal.signal(signal.SIGALRM, partial(_stop, seconds))
    signal.alarm(seconds)
    try:
        with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
            return pytest.main(options) == 0
    except TimeoutError:
        return False
    finally:
        signal.alarm(0)


def _stop(seconds: int, *_: object) -> None:
    raise TimeoutError(f"The tests took over {seconds} s.")


def run(chosen: list[Mutant], tests: list[str], show: Callable[[str], object] = print) -> list[Mutant]:
    """Run the tests on each mutant. Returns those that survive."""
    began = time.monotonic()
    if not passed(tests, 3600):
        raise SystemExit("The tests fail without a mutant: mend them first.")
    seconds = round(PATIENCE * (time.monotonic() - began)) + 10
    survivors = []
    for mutant in chosen:
        original, mutant.function.__code__ = mutant.function.__code__, mutant.code
        try:
            survived = passed(tests, seconds)
        finally:
            mutant.function.__code__ = original
        survivors += [mutant] if survived else []
        show(f"{'SURVIVED' if survived else 'killed'}  {mutant.place}  {mutant.change}")
    return survivors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+", help="whose functions are changed")
    parser.add_argument("--tests", nargs="+", required=True, help="files or folders of tests")
    parser.add_argument("--at-most", type=int, help="try so many mutants, drawn by chance")
    args = parser.parse_args()
    found = [mutant for name in args.modules for mutant in mutants(importlib.import_module(name))]
    chosen = found
    if args.at_most is not None and args.at_most < len(found):
        chosen = random.Random(0).sample(found, args.at_most)
    survivors = run(chosen, args.tests, partial(print, flush=True))
    print(f"{len(chosen)} of {len(found)} mutants, {len(chosen) - len(survivors)} killed, {len(survivors)} survived")


if __name__ == "__main__":
    main()
