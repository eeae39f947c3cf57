"""Test-only: what an expression is, without rounding."""

import ast
from collections.abc import Callable
from fractions import Fraction
from typing import Final

_OPERATORS: Final[dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]]] = {
    ast.Add: Fraction.__add__,
    ast.Sub: Fraction.__sub__,
    ast.Mult: Fraction.__mul__,
    ast.Div: Fraction.__truediv__,
}


def exact_value(expression: str) -> Fraction:
    """What the expression is, exactly."""

    def visit(node: ast.expr) -> Fraction:
        match node:
            case ast.Constant():
                return Fraction(ast.get_source_segment(expression, node) or "")
            case ast.BinOp(left, operation, right):
                return _OPERATORS[type(operation)](visit(left), visit(right))
            case ast.UnaryOp(ast.USub(), operand):
                return -visit(operand)
            case _:
                raise ValueError(ast.dump(node))

    return visit(ast.parse(expression, mode="eval").body)
