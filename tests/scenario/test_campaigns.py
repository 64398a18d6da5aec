"""The stories of campaigns, played through the real engine."""

from pathlib import Path

import pytest

from backstory.core.condition import Json
from backstory.core.time import DAY_US, HOUR_US, SECOND_US
from tests.scenario import story
from tests.scenario.story import Happening, Story
from tests.scenario.table import TableError
from tests.unit.campaign_world import World

STORIES = story.read(Path(__file__).with_name("campaigns.txt"))
CASES = [pytest.param(one, id=one.title) for one in STORIES]
SOME_CAMPAIGN = '{"trigger": {"event": {"name": "purchased"}}}'


def play(told: Story, root: Path) -> World:
    """The world after a story, a month later."""
    world = World(root, told.happens[0].at_us - HOUR_US)
    for time_us, name, attributes in told.people:
        world.identify(name, ago_s=(world.accept_us - time_us) / SECOND_US, **attributes)
    for name, conditions in told.segments:
        world.segment(conditions, name=name)
    for definition in told.campaigns:
        steps = definition["steps"]
        assert isinstance(steps, list)
        rest = {key: value for key, value in definition.items() if key not in ("trigger", "steps")}
        world.campaign(definition["trigger"], *steps, **rest)  # pyright: ignore[reportArgumentType]
    for happening in told.happens:
        world.elapse_until(happening.at_us)
        happen(world, happening)
    world.elapse_until(told.happens[-1].at_us + 30 * DAY_US)
    return world


def happen(world: World, one: Happening) -> None:
    """One line of a story."""
    ago_s = None if one.time_us is None else (world.accept_us - one.time_us) / SECOND_US
    details: dict[str, Json] = one.details if isinstance(one.details, dict) else {}
    number = one.details if isinstance(one.details, int) else 0
    match one.what:
        case "is":
            world.identify(one.person, ago_s=ago_s, **details)
        case "is deleted":
            world.delete(one.person)
        case "joins" | "leaves":
            world.put_into(number, one.person, add=one.what == "joins")
        case "starts":
            world.start(number)
        case "stops":
            world.stop(number)
        case event:
            world.track(one.person, event, ago_s=ago_s, **details)


@pytest.mark.parametrize("told", CASES)
def test_everybody_gets_what_the_story_says_and_nothing_else(told: Story, tmp_path: Path) -> None:
    """Exactly the mails of the story, at their second; messages dropped by a stop had been sent before it."""
    world = play(told, tmp_path)
    expected = [(at_us // SECOND_US, person, words.removeprefix("failed: ")) for at_us, person, words in told.expected]
    got: list[tuple[int, str, str]] = []
    for message, (_, _, words) in zip(world.messages(), told.expected, strict=True):
        text = message.subject
        if words.startswith("failed: "):
            text = words.removeprefix("failed: ")
            assert message.state == "failed"
            assert text in (message.failure or "")
        got.append((message.created_us // SECOND_US, message.identifiers["id"] or "", text))
    assert got == expected
    world.close()


@pytest.mark.parametrize("told", [case for case in CASES if case.values[0].journeys])
def test_journeys_end_as_the_story_says(told: Story, tmp_path: Path) -> None:
    """Each journey's state, and the reason of one that ended early."""
    world = play(told, tmp_path)
    ends: list[tuple[str, str]] = []
    for number in range(len(told.campaigns)):
        for journey in world.journeys(number + 1):
            reason = journey.steps[-1].reason
            ends.append((journey.identifiers["id"] or "", f"{journey.state}: {reason}" if reason else journey.state))
    assert ends == told.journeys
    world.close()


def test_every_story_has_a_title_of_its_own() -> None:
    """Two stories with one title could not be told apart in a report."""
    titles = [one.title for one in STORIES]
    assert len(titles) == len(set(titles))
    assert len(titles) >= 20


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("happens:\n  12:00 | ann | purchased", "line 2"),
        ("story: s\nhappens:\n  noon | ann | purchased", "line 3"),
        ("story: s\nhappens:\n  12:00 | ann", "line 3"),
        ('story: s\ncampaign:\n  {"steps": ["sing"]}', "is no step"),
        ("story: s\ncampaign:\n  {\nhappens:\n  12:00 | ann | purchased", "needs a campaign"),
        (f"story: s\ncampaign:\n  {SOME_CAMPAIGN}\nexpected:\n  nothing", "something that happens"),
        (
            f"story: s\ncampaign:\n  {SOME_CAMPAIGN}\nhappens:\n  13:00 | ann | purchased\n  12:00 | ann | purchased",
            "in order",
        ),
    ],
)
def test_a_story_that_cannot_be_read_says_where(text: str, message: str) -> None:
    """A slip in a story is an error with its line, not a story that tests nothing."""
    with pytest.raises(TableError, match=message):
        story.parse(text)
