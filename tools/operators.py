"""One example of every operator of conditions: what it takes, values for which it holds, values for which it does not.

``docs/conditions.md`` shows them, and a test asks both the fast code and the oracle about each of them.
"""

import json
from dataclasses import dataclass

from backstory.core.condition import Json

# The moment at which the examples are judged, in unix seconds: 14 November 2023, 22:13:20 UTC.
NOW_S = 1_700_000_000
MISSING = "(missing)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """``holds`` and ``fails`` are values of the attribute ``x``; ``MISSING`` stands for its absence."""

    operator: str
    value: Json = None
    value2: Json = None
    holds: tuple[Json, ...]
    fails: tuple[Json, ...]

    @property
    def condition(self) -> dict[str, Json]:
        body: dict[str, Json] = {"field": "x", "operator": self.operator}
        for name, value in (("value", self.value), ("value2", self.value2)):
            if value is not None:
                body[name] = value
        return {"attribute": body}


EXAMPLES: tuple[Example, ...] = (
    Example(operator="eq", value="Pro", holds=("pro", "PRO"), fails=("pro ", 1, MISSING)),
    Example(operator="!eq", value=5, holds=(6, "five", MISSING), fails=(5, 5.0, "5")),
    Example(operator="in", value=["no", "se"], holds=("NO", "se"), fails=("dk", MISSING)),
    Example(operator="!in", value=["no", "se"], holds=("dk", MISSING), fails=("NO",)),
    Example(operator="exists", holds=(0, False, "a", [], {}), fails=(MISSING,)),
    Example(operator="!exists", holds=(MISSING,), fails=(0, False)),
    Example(operator="contains", value="bak", holds=("Bakery", "a bak"), fails=("bk", 5, MISSING)),
    Example(operator="!contains", value="bak", holds=("bk", MISSING), fails=("Bakery",)),
    Example(operator="starts_with", value="75", holds=("75001", 75001), fails=("175", MISSING)),
    Example(operator="!starts_with", value="75", holds=("175", MISSING), fails=(75001,)),
    Example(operator="ends_with", value=".org", holds=("a@x.ORG",), fails=("a@x.com", MISSING)),
    Example(operator="!ends_with", value=".org", holds=("a@x.com", MISSING), fails=("a@x.ORG",)),
    Example(operator="gt", value=10, holds=(11, "10.5"), fails=(10, "many", MISSING)),
    Example(operator="lt", value=10, holds=(9, "-1"), fails=(10, True, MISSING)),
    Example(operator="ge", value=10, holds=(10, "10"), fails=(9.9, MISSING)),
    Example(operator="le", value=10, holds=(10, 0), fails=(10.1, MISSING)),
    Example(operator="bw", value=18, value2=30, holds=(18, "30"), fails=(17, 31, MISSING)),
    Example(operator="is_timestamp", holds=(0, NOW_S + 9, "5"), fails=(1_700_000_000_000, "2023-11-14", MISSING)),
    Example(operator="!is_timestamp", holds=(1_700_000_000_000, "soon", MISSING), fails=(0,)),
    Example(operator="timestamp_gt", value=-60, holds=(NOW_S - 59, NOW_S + 9), fails=(NOW_S - 60, MISSING)),
    Example(operator="timestamp_lt", value=60, holds=(NOW_S + 59, 0), fails=(NOW_S + 60, MISSING)),
    Example(operator="timestamp_gta", value=NOW_S, holds=(NOW_S + 1,), fails=(NOW_S, MISSING)),
    Example(operator="timestamp_lta", value=NOW_S, holds=(NOW_S - 1,), fails=(NOW_S, MISSING)),
    Example(
        operator="timestamp_bw", value=NOW_S, value2=NOW_S + 9, holds=(NOW_S, NOW_S + 9), fails=(NOW_S - 1, MISSING)
    ),
)


def rows() -> list[tuple[str, ...]]:
    """The examples as a table shows them."""
    return [
        (
            f"`{one.operator}`",
            ", ".join(f"`{json.dumps(value)}`" for value in (one.value, one.value2) if value is not None),
            ", ".join(map(_shown, one.holds)),
            ", ".join(map(_shown, one.fails)),
        )
        for one in EXAMPLES
    ]


def _shown(value: Json) -> str:
    return "missing" if value == MISSING else f"`{json.dumps(value)}`"
