"""Previews: what an import would do, exactly, before anything changes (design section 10).

A preview is the run itself, on a replica of the workspace whose clock stands still: the same code over the same rows,
so that it cannot say anything else than what the run will do. What the run left there is then compared with what was
there before. A replica is worked on by a process of its own, so live traffic goes on; it sends nothing, and it is
removed afterwards. Campaigns are looked at under each trigger policy: one more rehearsal for each policy that could
differ from the one asked for. Where no server runs, ``engine.preview.aside`` does it without another process.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from backstory.core.error import BackstoryError, RequestError
from backstory.core.time import SECOND_US
from backstory.engine.backfill.import_check import check
from backstory.engine.file.options import BackfillOptions, Policy, Progress
from backstory.engine.preview.preview_view import CampaignEffect, Preview
from backstory.store.reading import NotWritten
from backstory.store.replica import make_replica

if TYPE_CHECKING:
    from backstory.engine.workspace import Workspace

OnProgress = Callable[[Progress], None]
POLICIES: tuple[Policy, ...] = ("recent", "none", "all")


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """One run to try on a replica, as the process that does it is told."""

    path: str
    options: BackfillOptions
    now_us: int
    trigger_age_us: int
    # Write the history of the run, though mostly nobody asks for it (``NotWritten``).
    keep: bool = False


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the process of a rehearsal says, a line each: where it is, and at the end what it found or what failed.

    ``not_written``: it needs the history of its run, which has to be kept for it.
    """

    progress: Progress | None = None
    preview: Preview | None = None
    error: str | None = None
    not_written: bool = False


# Does a rehearsal and tells how far it is.
Rehearse = Callable[[Rehearsal, OnProgress], Preview]


def preview(
    workspace: Workspace, options: BackfillOptions, on_progress: OnProgress, *, rehearse: Rehearse | None = None
) -> Preview:
    """What ``backfill.run`` with these options would do now. Changes nothing.

    Raises what ``backfill.run`` would raise before its first row, and whatever ``on_progress`` raises.
    """
    check(options)
    now_us = max(workspace.clock.now_us(), workspace.folder.state.now_us)

    def under(policy: Policy, keep: bool) -> Preview:
        with nullcontext(rehearse) if rehearse else _process() as begun:
            replica = make_replica(workspace.folder)
            try:
                tried = Rehearsal(
                    path=str(replica),
                    options=msgspec.structs.replace(options, triggers=policy),
                    now_us=now_us,
                    trigger_age_us=workspace.context.trigger_age_us,
                    keep=keep,
                )
                return begun(tried, on_progress)
            finally:
                shutil.rmtree(replica, ignore_errors=True)

    with workspace.compactor.resting():
        return under_each(options.triggers, under)


def under_each(asked: Policy, rehearsed: Callable[[Policy, bool], Preview]) -> Preview:
    """What a run would do, and what campaigns would do under each policy.

    ``rehearsed`` does one rehearsal under a policy, and keeps its history or not.
    """

    def under(policy: Policy) -> Preview:
        try:
            return rehearsed(policy, False)
        except NotWritten:
            return rehearsed(policy, True)

    first = under(asked)
    effects = list(first.campaigns)
    for policy in POLICIES:
        if policy != asked:
            effects += _effects_under(policy, asked, first, under)
    order = {policy: place for place, policy in enumerate(POLICIES)}
    effects.sort(key=lambda effect: (effect.id, order[effect.policy]))
    return msgspec.structs.replace(first, campaigns=effects)


def _effects_under(
    policy: Policy, asked: Policy, first: Preview, under: Callable[[Policy], Preview]
) -> list[CampaignEffect]:
    """What campaigns would do under another policy than the one asked for."""
    if not first.campaigns:
        return []
    if policy == "none":
        return [_nothing(effect) for effect in first.campaigns]
    held = first.held_back.event + first.held_back.segment
    if asked != "none" and policy == "all" and not held:
        # Nothing was held back: with everything let through, the same happens.
        return [msgspec.structs.replace(effect, policy=policy) for effect in first.campaigns]
    return under(policy).campaigns


def _nothing(effect: CampaignEffect) -> CampaignEffect:
    return CampaignEffect(
        id=effect.id,
        name=effect.name,
        policy="none",
        journeys=0,
        journeys_later_at_most=0,
        messages=0,
        messages_later_at_most=0,
    )


@contextmanager
def _process() -> Generator[Rehearse]:
    """Rehearse in a process of its own: it loads what it needs while the replica is made, and ends with the block."""
    command = [sys.executable, "-m", "backstory.engine.preview.rehearsal"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield partial(_ask, process)
        finally:
            process.kill()


def _ask(process: subprocess.Popen[bytes], tried: Rehearsal, on_progress: OnProgress) -> Preview:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(msgspec.json.encode(tried))
    process.stdin.close()
    for line in process.stdout:
        said = msgspec.json.decode(line, type=Outcome)
        if said.progress is not None:
            on_progress(said.progress)
        if said.not_written:
            raise NotWritten
        if said.error is not None:
            raise RequestError(said.error)
        if said.preview is not None:
            return said.preview
    raise BackstoryError("the preview ended without an answer: nothing was changed; try again")


def as_json(seen: Preview) -> dict[str, Any]:
    """The object ``--preview --json`` prints: the summary's keys and what would change; ``now`` in unix seconds."""
    shown = msgspec.to_builtins(seen)
    shown["now"] = seen.now_us / SECOND_US
    del shown["now_us"]
    return shown


def replica_of(tried: Rehearsal) -> Path:
    return Path(tried.path)
