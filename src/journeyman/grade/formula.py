"""The formula of a multi grader: + - * / ^ and a few functions over the scores of its graders.

Python's parser reads it, but nothing of Python runs: only the nodes below are walked, all numbers are floats.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

MAX_LENGTH = 500
"""Characters of a formula; far more than anyone writes, and few enough for Python's parser."""

FUNCTIONS: dict[str, Callable[..., float]] = {
    "min": min,
    "max": max,
    "abs": abs,
    "floor": math.floor,
    "ceil": math.ceil,
    "exp": math.exp,
    "sqrt": math.sqrt,
    "log": math.log,
}
_VARIADIC = ("min", "max")


@dataclass(frozen=True, slots=True)
class Formula:
    """A formula that was checked: it has only known names, numbers, operators and functions."""

    text: str
    tree: ast.expr

    @classmethod
    def parse(cls, text: str, names: Mapping[str, object]) -> Formula:
        """Read a formula over `names`. Raises ValueError that says what is not allowed in it."""
        if len(text) > MAX_LENGTH:
            raise ValueError(f"has {len(text)} characters, and {MAX_LENGTH} are allowed")
        if "**" in text:
            raise ValueError("** is not known; a power is written a ^ b")
        try:
            # Python's ^ binds looser than +, a power does not: read it as Python's power.
            tree = ast.parse(text.strip().replace("^", "**"), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError("is not a formula: check its brackets and operators") from error
        _check(tree, names)
        return cls(text, tree)

    def value(self, values: Mapping[str, float]) -> float:
        """The formula's value. Raises ValueError where it has none (a division by 0, the root of -1)."""
        try:
            result = _walk(self.tree, values)
        except (ArithmeticError, ValueError) as error:
            raise ValueError(f"the formula has no value here: {error}") from error
        if not math.isfinite(result):
            raise ValueError(f"the formula has no finite value here: {result}")
        return result


def _check(node: ast.expr, names: Mapping[str, object]) -> None:
    match node:
        case ast.Constant(value=value):
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ValueError(f"{value!r} is not a number")
            try:
                float(value)
            except OverflowError as error:
                raise ValueError("a number in it is too large") from error
        case ast.Name(id=name):
            if name not in names:
                raise ValueError(f"{name!r} is none of its graders ({', '.join(names)})")
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(operand, names)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div() | ast.Pow(), right=right):
            _check(left, names)
            _check(right, names)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]):
            if name not in FUNCTIONS:
                raise ValueError(f"{name!r} is none of its functions ({', '.join(FUNCTIONS)})")
            if not args or (len(args) > 1 and name not in _VARIADIC):
                raise ValueError(f"{name} takes {'one value or more' if name in _VARIADIC else 'one value'}")
            for argument in args:
                _check(argument, names)
        case _:
            raise ValueError(
                f"{ast.unparse(node)!r} is not allowed; write numbers, graders, + - * / ^ and functions"
            )


def _walk(node: ast.expr, values: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.Name(id=name):
            return values[name]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_walk(operand, values)
        case ast.UnaryOp(operand=operand):
            return _walk(operand, values)
        case ast.BinOp(left=left, op=op, right=right):
            return _operate(op, _walk(left, values), _walk(right, values))
        case ast.Call(func=ast.Name(id=name), args=args):
            arguments = [_walk(argument, values) for argument in args]
            return float(
                min(arguments)
                if name == "min"
                else max(arguments)
                if name == "max"
                else FUNCTIONS[name](*arguments)
            )
    raise ValueError(f"{ast.dump(node)} was not checked")


def _operate(op: ast.operator, a: float, b: float) -> float:
    match op:
        case ast.Add():
            return a + b
        case ast.Sub():
            return a - b
        case ast.Mult():
            return a * b
        case ast.Div():
            return a / b
    return math.pow(a, b)
