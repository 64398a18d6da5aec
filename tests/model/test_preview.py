"""Previews against the runs that follow: whatever a preview says comes true, and it changes nothing."""

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from backstory.core.fact import Fact
from backstory.engine.backfill.import_job import Chunking
from backstory.engine.file.options import BackfillOptions, Policy, Progress
from backstory.engine.preview import preview
from backstory.engine.preview.preview import POLICIES, Rehearsal
from backstory.engine.preview.preview_view import Preview
from backstory.engine.preview.rehearsal import rehearse
from tests.hunt import examples
from tests.live import Live
from tests.model.imported import Row, bring_in, json_lines, state, tell, written
from tests.model.test_backfill import CAMPAIGNS, event_rows, live_facts, people_rows, start_campaign, two_worlds

COUNTED = (
    "rows", "created", "updated", "unchanged", "stale", "duplicate", "skipped", "errors", "warnings", "held_back",
    "people_created", "to_mend", "journeys_started",
)  # fmt: skip


@settings(max_examples=examples(20))
@given(
    kind=st.sampled_from(("events", "people")),
    data=st.data(),
    before=live_facts(),
    policy=st.sampled_from(POLICIES),
    waits=st.booleans(),
    chunking=st.sampled_from((None, Chunking(bytes_max=300, people_rows_max=3, fast_bytes_min=0))),
)
def test_a_preview_comes_true(
    kind: str, data: st.DataObject, before: list[Fact], policy: Policy, waits: bool, chunking: Chunking | None
) -> None:
    """Counts, entries and exits of segments, journeys and messages under the policy of the run; then all is as said.

    With campaigns (``waits``), and without, where a preview does not write its history; in one chunk and in many.
    """
    rows: list[Row] = data.draw(event_rows() if kind == "events" else people_rows())
    with two_worlds() as (world, _, folder):
        tell(world, before)
        if waits:
            for trigger in CAMPAIGNS:
                start_campaign(world, trigger)
            start_campaign(world, {"segment": {"id": 1, "transition": "entered"}})
        file = written(folder, "rows.jsonl", json_lines(rows))
        options = BackfillOptions(kind=kind, paths=(file,), triggers=policy)  # pyright: ignore[reportArgumentType]
        untouched = state(world)
        kept: list[bool] = []

        def tried(one: Rehearsal, on_progress: Callable[[Progress], None]) -> Preview:
            kept.append(one.keep)
            return rehearse(one, on_progress, chunking=chunking)

        said = preview.preview(world.workspace, options, lambda progress: None, rehearse=tried)
        # Nobody asked for history that was not there.
        assert not any(kept)
        assert state(world) == untouched
        members = members_of(world)
        journeys, messages = counts(world)
        summary = bring_in(world, options)
        assert {name: getattr(said, name) for name in COUNTED} == {name: getattr(summary, name) for name in COUNTED}
        check_segments(said, members, members_of(world))
        now = counts(world)
        for effect in said.campaigns:
            if effect.policy == policy:
                assert effect.journeys == now[0].get(effect.id, 0) - journeys.get(effect.id, 0)
                assert effect.messages == now[1].get(effect.id, 0) - messages.get(effect.id, 0)


def members_of(world: Live) -> dict[int, set[int]]:
    return {number: set(kept.members) for number, kept in world.workspace.segments.segments.items()}


def counts(world: Live) -> tuple[dict[int, int], dict[int, int]]:
    """Journeys and deliveries by campaign."""
    rows = world.workspace.folder.state.rows
    return (
        dict(rows("SELECT campaign_id, count(*) FROM journey GROUP BY 1")),
        dict(rows("SELECT campaign_id, count(*) FROM delivery GROUP BY 1")),
    )


def check_segments(said: Preview, before: dict[int, set[int]], after: dict[int, set[int]]) -> None:
    for effect in said.segments:
        old, new = before[effect.id], after[effect.id]
        assert (effect.enter, effect.leave, effect.members) == (len(new - old), len(old - new), len(new))
