"""Real purchases: a hundred random questions as of random days, asked of the engine and of plain SQL over the file."""

import random
from pathlib import Path

import duckdb
import pytest

from backstory.core.condition import Json, parse
from backstory.core.time import DAY_US, SECOND_US
from backstory.engine.answer import inquiry
from backstory.engine.backfill import backfill
from backstory.engine.file.options import BackfillOptions
from tests.live import Live

FILE = Path(__file__).resolve().parents[2] / "examples" / "cdnow_purchases.csv.gz"
FIRST_S, LAST_S = 852_076_800, 899_251_200
QUESTIONS = 100
Question = tuple[Json, str]


class Asker:
    """Makes questions twice: as a condition, and as SQL about a customer ``p`` at ``$at`` (unix seconds)."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def question(self, depth: int = 2) -> Question:
        form = self.random.choice(("and", "or", "not", "event", "event", "event"))
        if depth == 0 or form == "event":
            return self.event()
        if form == "not":
            condition, sql = self.question(depth - 1)
            return {"not": condition}, f"NOT {sql}"
        parts = [self.question(depth - 1) for _ in range(2)]
        return {form: [one for one, _ in parts]}, f"({parts[0][1]} {form.upper()} {parts[1][1]})"

    def event(self) -> Question:
        body: dict[str, Json] = {"name": self.random.choice(("purchased", "purchased", "purch*", "sold"))}
        chosen = ["e.customer_id = p.customer_id", "e.time <= $at"]
        if body["name"] == "sold":
            chosen.append("false")
        known = "true"
        match self.random.choice(("ever", "last", "last", "between")):
            case "last":
                days = self.random.choice((1, 7, 30, 90, 200))
                body["within"] = {"last_s": days * 86_400}
                chosen.append(f"e.time > $at - {days * 86_400}")
                known = f"p.known <= $at - {days * 86_400}"
            case "between":
                low, high = sorted(self.random.sample(range(FIRST_S, LAST_S, 86_400), 2))
                body["within"] = {"from": low, "to": high}
                chosen.append(f"e.time >= {low} AND e.time < {high}")
                known = f"p.known <= {low}"
            case _:
                pass
        if self.random.random() < 0.5:
            field = self.random.choice(("cds", "dollars"))
            bound = self.random.choice((1, 2, 5, 14.37, 30))
            operator, sign = self.random.choice((("gt", ">"), ("le", "<="), ("eq", "="), ("lt", "<")))
            body["where"] = {"attribute": {"field": field, "operator": operator, "value": bound}}
            chosen.append(f"e.{field} {sign} {bound}")
        count = f"(SELECT count(*) FROM purchase e WHERE {' AND '.join(chosen)})"
        return self.counted(body, count, known)

    def counted(self, body: dict[str, Json], count: str, known: str) -> Question:
        low, high = sorted((self.random.randint(0, 4), self.random.randint(0, 4)))
        forms: list[tuple[dict[str, Json], str]] = [
            ({}, f"{count} >= 1"),
            ({"performed": False}, f"({count} = 0 AND {known})"),
            ({"count": {"at_least": high}}, f"{count} >= {high}"),
            ({"count": {"at_most": low}}, f"{count} <= {low}"),
            ({"count": {"between": [low, high]}}, f"{count} BETWEEN {low} AND {high}"),
        ]
        added, sql = self.random.choice(forms)
        return {"event": {**body, **added}}, sql


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Live:
    live = Live(tmp_path_factory.mktemp("purchases") / "default", now_us=(LAST_S + 30 * 86_400) * SECOND_US)
    backfill.run(live.workspace, BackfillOptions(kind="events", paths=(str(FILE),)), lambda progress: None)
    return live


@pytest.fixture(scope="module")
def duck() -> duckdb.DuckDBPyConnection:
    duck = duckdb.connect()
    duck.execute(
        'CREATE TABLE purchase AS SELECT customer_id, timestamp AS time, "data.cds" AS cds, "data.dollars" AS dollars'
        f" FROM read_csv('{FILE}', types={{'customer_id': 'VARCHAR'}})"
    )
    return duck


def test_random_questions_have_the_answers_of_plain_sql(live: Live, duck: duckdb.DuckDBPyConnection) -> None:
    """Segments as of any day hold exactly the customers that SQL finds in the file; no two seeds ask the same."""
    names = {row[0]: row[1] for row in live.workspace.folder.state.rows("SELECT person, id FROM person")}
    asker = Asker(1997)
    some = 0
    for _ in range(QUESTIONS):
        condition, sql = asker.question()
        at_s = asker.random.randrange(FIRST_S - 86_400, LAST_S + 20 * 86_400, 3600)
        rows = duck.execute(
            "SELECT customer_id FROM (SELECT customer_id, min(time) AS known FROM purchase GROUP BY 1) p"
            f" WHERE known <= $at AND {sql}",
            {"at": at_s},
        ).fetchall()
        found = inquiry.preview(live.workspace, parse(condition), at_s * SECOND_US, None)
        assert {names[person] for person in found} == {row[0] for row in rows}, (condition, at_s)
        some += 0 < len(rows) < len(names)
    assert some > QUESTIONS // 3, "most questions have to divide the customers"


def test_a_history_of_weeks_has_the_answers_of_plain_sql(live: Live, duck: duckdb.DuckDBPyConnection) -> None:
    """One read of history gives for each week what SQL counts for that week."""
    condition = parse({"event": {"name": "purchased", "count": {"at_least": 2}, "within": {"last_s": 60 * 86_400}}})
    points = list(range(FIRST_S, LAST_S, 7 * 86_400))
    counts = inquiry.counts(live.workspace, condition, [at_s * SECOND_US for at_s in points], None)
    rows = duck.execute(
        "SELECT day, count(*) FROM (SELECT day, customer_id FROM (SELECT unnest($1) AS day) JOIN purchase"
        f" ON time <= day AND time > day - {60 * DAY_US // SECOND_US} GROUP BY ALL HAVING count(*) >= 2) GROUP BY 1",
        [points],
    ).fetchall()
    expected = dict(rows)
    assert counts == [expected.get(at_s, 0) for at_s in points]
    assert max(counts) > 1000
