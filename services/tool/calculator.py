"""The built-in tool `calculator`."""

from typing import Final

from services.tool.expression import MAX_CHARACTERS, Calculator, ExpressionFault
from services.tool.tool import Answer, Effect, Invocation, ToolFault, ToolSpec

_SPEC: Final = ToolSpec(
    id="calculator",
    description=(
        "Computes an arithmetic expression exactly. Use it for every calculation."
        " Knows + - * / ** and parentheses; % after a number is a percentage (`10%` is 0.1,"
        " `17.5% of 2480`), between two numbers the remainder (`10 % 3`); functions sqrt, abs,"
        " round(x, decimals), min, max, floor, ceil, log (base 10, or log(x, base)), ln, exp;"
        " constants pi and e. `2,480` is read as 2480, except within a function, where commas"
        " separate arguments."
    ),
    parameters={
        "type": "object",
        "properties": {
            "expression": {
                "type": "string",
                "minLength": 1,
                "maxLength": MAX_CHARACTERS,
                "description": "The expression, such as `(1 + 17.5%) * 2480`.",
            }
        },
        "required": ["expression"],
        "additionalProperties": False,
    },
    effect=Effect.READ_ONLY,
    timeout_seconds=2.0,
    result_schema={
        "type": "object",
        "properties": {
            "value": {"type": "string", "description": "The result in decimal digits."},
            "exact": {"type": "boolean", "description": "False where digits were cut off."},
        },
        "required": ["value", "exact"],
        "additionalProperties": False,
    },
)


class CalculatorTool:
    """Answers with the value as its text, such as `434`."""

    def __init__(self) -> None:
        self._calculator: Final = Calculator()

    @property
    def spec(self) -> ToolSpec:
        """What it is."""
        return _SPEC

    async def execute(self, invocation: Invocation) -> Answer:
        """Computes `expression`; ToolFault where it has no value."""
        try:
            result = self._calculator.evaluate(str(invocation.arguments["expression"]))
        except ExpressionFault as error:
            raise ToolFault(str(error)) from error
        value = result.written()
        return Answer(value.text, data={"value": value.text, "exact": value.exact})
