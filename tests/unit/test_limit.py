"""Every limit is tried at the limit and one past it: here over the endpoint, or in the test file named beside it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from backstory.core import limit
from backstory.core.campaign import parse
from backstory.core.condition import Json
from backstory.core.error import Busy, LimitError
from backstory.core.fact import DeletePerson, Identifier
from backstory.core.limit import LIMITS
from backstory.core.template import TemplateError, check, render
from backstory.engine.house import House
from backstory.engine.inbox import Inbox, Ticket
from backstory.engine.settings import load
from tests.live import Live
from tests.unit.fake_reader import FakeWorkspace as ReadWorkspace
from tests.unit.fake_reader import app_client
from tests.unit.test_campaign import campaign, refused
from tests.unit.write_client import WriteClient, write_client

TESTS = Path(__file__).parents[1]
PERSON = "/api/v1/customers/5"
Request = tuple[str, str, Any]


def _names(count: int) -> dict[str, int]:
    return {f"a{number}": number for number in range(count)}


def _relate(object_id: str = "acme", type_id: int = 1, **more: object) -> Request:
    pair = {"identifiers": {"object_type_id": str(type_id), "object_id": object_id}, **more}
    return "POST", "/api/v2/entity", {
        "type": "person", "action": "add_relationships", "identifiers": {"id": "5"}, "cio_relationships": [pair],
    }  # fmt: skip


def _device(token: str = "t", attributes: object = None) -> Request:
    return "PUT", f"{PERSON}/devices", {"device": {"id": token, "platform": "ios", "attributes": attributes or {}}}


def _metric(delivery_id: str = "dlv", **more: str) -> Request:
    return "POST", "/api/v1/metrics", {"delivery_id": delivery_id, "metric": "opened", "timestamp": 5, **more}


def _object(size: int) -> Request:
    """An object whose attributes are so many bytes of JSON; under a batch, which may be long enough."""
    attributes = {f"a{number}": "v" * 900 for number in range(100)}
    held = len('{"pad":""}') + sum(len(f',"a{number}":"{"v" * 900}"') for number in range(100))
    attributes["pad"] = "p" * (size - held)
    return "POST", "/api/v2/entity", {
        "type": "object", "action": "identify", "identifiers": {"object_type_id": "1", "object_id": "o"},
        "attributes": attributes,
    }  # fmt: skip


# By limit: a request of the size given.
CASES: dict[str, Callable[[int], Request]] = {
    "id_bytes": lambda size: ("PUT", f"/api/v1/customers/{'i' * size}", {}),
    "email_bytes": lambda size: ("PUT", PERSON, {"email": f"{'m' * 60}@{'x' * (size - 65)}.com"}),
    "attribute_name_bytes": lambda size: ("PUT", PERSON, {"n" * size: 1}),
    "attribute_value_bytes": lambda size: ("PUT", PERSON, {"a": "v" * size}),
    "attributes_per_call": lambda size: ("PUT", PERSON, _names(size)),
    "device_token_bytes": lambda size: _device("t" * size),
    "device_attributes": lambda size: _device(attributes=_names(size)),
    "object_id_bytes": lambda size: _relate("o" * size),
    "object_type_id": lambda size: _relate(type_id=size),
    "object_attributes": lambda size: _relate(relationship_attributes=_names(size)),
    "event_name_bytes": lambda size: ("POST", f"{PERSON}/events", {"name": "e" * size}),
    "event_data_bytes": lambda size: ("POST", f"{PERSON}/events", {"name": "e", "data": {"a": "v" * (size - 8)}}),
    "event_id_bytes": lambda size: ("POST", "/v1/track", {"userId": "5", "event": "e", "messageId": "m" * size}),
    "delivery_id_bytes": lambda size: _metric("d" * size),
    "metric_text_bytes": lambda size: _metric(reason="r" * size),
    "members_per_call": lambda size: ("POST", "/api/v1/segments/7/add_customers", {"ids": list(map(str, range(size)))}),
}
# Where the others are tried, and a word that says so there.
ELSEWHERE: dict[str, tuple[str, str]] = {
    "body_wait_s": ("unit/test_receiving.py", "wait_s"),
    "name_characters": ("unit/test_campaign.py", "longer than 250"),
    "template_work": ("unit/test_template.py", "steps of work"),
}


@pytest.fixture(scope="module")
def client() -> Iterator[WriteClient]:
    with write_client() as client:
        yield client


@pytest.mark.parametrize("name", CASES)
def test_a_limit_holds_over_the_endpoint(client: WriteClient, name: str) -> None:
    """What is as large as the limit is taken; one more is 400, with the words of the limit, and nothing happens."""
    entry = next(one for one in LIMITS if one.name == name)
    for size, status in ((entry.value, 200), (entry.value + 1, 400)):
        method, path, body = CASES[name](size)
        answer = client.call(method, path, body, x_strict_mode="1")
        assert answer.status == status, (size, answer.body[:300])
        assert bool(client.facts) == (status == 200)
    assert entry.message.partition("{")[0] in answer.body.decode() or "{subject}" in entry.message


def test_a_server_has_so_many_workspaces(tmp_path: Path) -> None:
    """The last one is made, one more is refused before anything of it is there."""
    workspaces = tmp_path / "workspaces"
    for number in range(limit.WORKSPACES.value - 2):
        (workspaces / f"some-{number}").mkdir(parents=True)
    house = House(load({}, {"data": tmp_path}))
    house.create("last").close()
    with pytest.raises(LimitError, match="workspaces"):
        house.create("more")
    assert not (workspaces / "more").exists()


def test_a_person_has_so_many_attributes(tmp_path: Path) -> None:
    """Judged on what they have already: the call that goes past it changes nothing."""
    live = Live(tmp_path / "default")
    assert live.identify("ann", **_names(limit.ATTRIBUTES_PER_PERSON.value)).result == "applied"
    assert live.identify("ann", one_more=1).result == "conflict"
    assert live.identify("ann", a0=2).result == "applied"
    live.close()


def test_a_backlog_is_bounded() -> None:
    """The last fact it has room for is taken; one more has to come again later."""
    fact = DeletePerson(person=Identifier("id", "5"))

    def ticket(count: int) -> Ticket:
        return Ticket([fact] * count, None, None, lambda error: None)

    inbox = Inbox()
    inbox.put(ticket(limit.BACKLOG_FACTS.value - 1))
    inbox.put(ticket(1))
    with pytest.raises(Busy):
        inbox.put(ticket(1))


def test_a_history_has_so_many_points() -> None:
    """A chart of as many points is drawn; one more is 400."""
    with app_client(ReadWorkspace()) as client:
        assert client.post("/v1/segments", json={"segment": {"name": "some"}}).is_success
        for points, status in ((limit.HISTORY_POINTS.value, 200), (limit.HISTORY_POINTS.value + 1, 400)):
            query = {"start": "1000000", "end": str(1_000_000 + 60 * (points - 1)), "step": "60"}
            answer = client.get("/v1/segments/1/history", params=query)
            assert answer.status_code == status, answer.text


def test_a_campaign_has_so_many_steps_and_so_long_an_interval() -> None:
    """At the limit it is made; past it the error points at what is too much."""
    steps: list[Json] = [{"type": "delay", "seconds": 60}] * limit.CAMPAIGN_STEPS.value
    most = limit.CAMPAIGN_INTERVAL_S.value
    parse(campaign(steps=steps, frequency={"mode": "every", "min_interval_s": most}))
    assert "steps" in refused(campaign(steps=[*steps, steps[0]])).message
    past = refused(campaign(frequency={"mode": "every", "min_interval_s": most + 1}))
    assert past.path.endswith("min_interval_s")


def test_a_template_has_so_many_terms_in_a_tag_and_makes_so_much() -> None:
    """Terms are counted when it is made, bytes when it is rendered."""

    def asks(names: int) -> str:
        """So many names, the words between them, and the whole: twice as many terms."""
        return "{% if " + " or ".join(["a"] * names) + " %}x{% endif %}"

    most = limit.TEMPLATE_TERMS.value // 2
    check(asks(most), path="$")
    with pytest.raises(TemplateError, match="terms"):
        check(asks(most + 1), path="$")
    # A text weighs one more than it is long.
    longest = limit.TEMPLATE_VALUE_BYTES.value - 1
    for size, stands in ((longest, True), (longest + 1, False)):
        context = {"customer": {"a": "x" * size}}
        if stands:
            assert len(render("{% assign b = customer.a | upcase %}{{ b | size }}", context)) == len(str(size))
        else:
            with pytest.raises(TemplateError, match="bytes"):
                render("{% assign b = customer.a | upcase %}{{ b | size }}", context)


def test_no_limit_is_without_a_test() -> None:
    """A new limit needs a case above, or a test that names it."""
    texts = {path: path.read_text() for path in TESTS.rglob("test_*.py")}
    untried: list[str] = []
    for name, value in vars(limit).items():
        if isinstance(value, limit.Limit) and value.name not in CASES:
            named = [path for path, text in texts.items() if name in text and path.name != "test_tidy.py"]
            words = ELSEWHERE.get(value.name)
            held = words is not None and words[1] in (TESTS / words[0]).read_text()
            if not named and not held:
                untried.append(name)
    assert untried == []
