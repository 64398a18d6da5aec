"""Every place in a data folder, what of a person it may hold, and when that is gone after they were deleted.

The one table behind ``docs/privacy.md`` and ``backstory privacy prove``: a table of the schema or a kind of file that
is not in it fails a test.
"""

import re
from dataclasses import dataclass

AT_ONCE = "at once"
PURGED = "by the set time"
NOTHING = "holds nothing of a person"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """``name`` is that of a table of ``state.db``, or of a kind of file; ``gone``: when it is free of somebody."""

    name: str
    holds: str
    gone: str


_HASH = "only keyed hashes of names: they refuse older facts and, of the suppressed, newer ones"
TABLES: tuple[Place, ...] = (
    Place(name="meta", holds="counters, positions, and the key of the hashes", gone=NOTHING),
    Place(name="person", holds="identifiers and attributes", gone=AT_ONCE),
    Place(name="tombstone", holds="names, to refuse facts older than the deletion", gone=f"{PURGED}: hashes stay"),
    Place(name="deleted", holds="a number, the time, and the names for the log of deleted people",
          gone=f"names {PURGED}, of the suppressed at once; the number and the time stay"),
    Place(name="suppressed", holds=_HASH, gone="the hashes stay"),
    Place(name="purge", holds="the numbers of those who wait to be purged", gone=PURGED),
    Place(name="import_drift", holds="counts of events", gone=NOTHING),
    Place(name="claim", holds="anonymous ids", gone=AT_ONCE),
    Place(name="device", holds="tokens and attributes of devices", gone=AT_ONCE),
    Place(name="object_type", holds="types of objects", gone=NOTHING),
    Place(name="object", holds="objects; nothing of the people related to them", gone=NOTHING),
    Place(name="relationship", holds="relationships and their attributes", gone=AT_ONCE),
    Place(name="anonymous_relationship", holds="relationships of anonymous ids that nobody claimed",
          gone="never: they are nobody's until they are claimed"),
    Place(name="unrelated", holds="identifiers that nobody had when a relationship of theirs ended", gone=PURGED),
    Place(name="record_write", holds="the history of devices and relationships", gone=AT_ONCE),
    Place(name="retracted_write", holds="the same of imports that were taken back", gone=AT_ONCE),
    Place(name="event", holds="the newest events", gone=f"{PURGED}, of the suppressed at once"),
    Place(name="attribute_write", holds="the newest attribute changes", gone=f"{PURGED}, of the suppressed at once"),
    Place(name="write_block", holds="attribute changes of an import at work, packed",
          gone=f"{PURGED}, of the suppressed at once"),
    Place(name="anonymous_event", holds="events of anonymous ids that nobody claimed",
          gone="never: they are nobody's until they are claimed"),
    Place(name="activity", holds="the log: changes, refusals, and refused calls that named somebody",
          gone=f"{PURGED}, of the suppressed mostly at once"),
    Place(name="transition", holds="entries into segments and exits, by number", gone=PURGED),
    Place(name="transition_block", holds="people whom builds of segments moved, by number", gone=PURGED),
    Place(name="future", holds="events dated in the future", gone=AT_ONCE),
    Place(name="segment", holds="definitions of segments (a condition that names a person is yours to change), and of "
          "those being built the former members, by number", gone="numbers when the segment is built"),
    Place(name="manual_member", holds="members of manual segments, by number", gone=AT_ONCE),
    Place(name="placement", holds="when somebody was put into manual segments, by number", gone=AT_ONCE),
    Place(name="retracted_placement", holds="the same of imports that were taken back, by number", gone=AT_ONCE),
    Place(name="campaign", holds="definitions of campaigns", gone=NOTHING),
    Place(name="campaign_start", holds="who is still to begin a campaign, by number", gone="when all have begun"),
    Place(name="journey", holds="ways through campaigns, with what started them",
          gone=f"{PURGED}, of the suppressed at once"),
    Place(name="decision", holds="what was decided in journeys", gone=f"{PURGED}, of the suppressed at once"),
    Place(name="delivery", holds="messages with their texts",
          gone=f"texts {PURGED}, of the suppressed at once; a row without them stays, so that counts stay right"),
    Place(name="naming", holds="whom imports have named, by number", gone=NOTHING),
    Place(name="baseline", holds="who was in segments when an import began, by number, until it ends", gone=NOTHING),
    Place(name="build", holds="when builds of segments were asked for", gone=NOTHING),
    Place(name="build_told", holds="of whom something was told while a segment is built, by number, until it is",
          gone=NOTHING),
    Place(name="confirmed", holds="whose identifiers others than imports have named, by number", gone=PURGED),
    Place(name="confirmed_newly", holds="the newest of these", gone=PURGED),
    Place(name="replaced", holds="identifiers in whose place an import gave others", gone=AT_ONCE),
    Place(name="retraction", holds="which imports are taken back", gone=NOTHING),
    Place(name="absence", holds="from when to when imports did not count", gone=NOTHING),
    Place(name="withdrawn", holds="identifiers of people that an import had brought which was taken back",
          gone="when that import is purged or brought in again; of who is deleted or suppressed by name, at once"),
    Place(name="import", holds="options and counts of imports", gone=NOTHING),
    Place(name="part", holds="names of files", gone=NOTHING),
    Place(name="key_run", holds="names of files", gone=NOTHING),
    Place(name="leaf", holds="which questions segments ask", gone=NOTHING),
    Place(name="leaf_page", holds="answers to these by number: memory, as it was stored",
          gone="at once, stored in seconds"),
)
_PATTERNS: tuple[tuple[str, Place], ...] = (
    (r".*state\.db", Place(name="state.db", holds="the tables above, and free pages", gone=PURGED)),
    (r".*state\.db-(wal|shm)", Place(name="state.db-wal", holds="the newest commits of state.db", gone=PURGED)),
    (r".*journal\.db(-wal|-shm)?", Place(
        name="journal.db", holds="calls as they were accepted, until they are applied and synced",
        gone=f"rows within a minute, their bytes {PURGED}",
    )),
    (r".*/parts/.*\.parquet", Place(name="parts", holds="older events and attribute changes", gone=PURGED)),
    (r".*/parts/.*\.keys", Place(name="key runs", holds="numbers, with keys of older events", gone=PURGED)),
    (r".*/parts/.*\.new", Place(name="files being written", holds="a part or a run, not complete",
                               gone="at the next start at the latest")),
    (r".*/reports/.*", Place(
        name="import reports", holds="rows of imports that were refused, or taken with a warning",
        gone=f"{PURGED}: overwritten in place, where the row names the person as a value or a word",
    )),
    (r".*/spool/.*", Place(
        name="spools", holds="what was fetched or uploaded for an import, whole",
        gone="when the import has ended; what no import began with after a week. An unfinished import keeps its spool: "
        "'backstory imports cancel'",
    )),
    (r"(.*/)?mailbox/.*", Place(
        name="mailbox", holds="messages written to files where sending is set to mailbox", gone=PURGED,
    )),
    (r".*/(replicas|temporary)/.*|tmp/.*", Place(
        name="temporary files", holds="copies for previews, spills of large sorts",
        gone="when the work has ended, at the next start at the latest",
    )),
    (r".*/credentials\.json.*|.*/credentials\.lock|tls/.*|(.*/)?lock|backstory\.sock", Place(
        name="keys and locks", holds="hashes of API keys, certificates, locks", gone=NOTHING,
    )),
)
FILES: tuple[Place, ...] = tuple(place for _, place in _PATTERNS)
OTHER = Place(name="another file", holds="not written by Backstory", gone="not by itself: it is yours to delete")


def place_of(path: str) -> Place:
    """What a file is, by its path from the data folder on."""
    return next((place for pattern, place in _PATTERNS if re.fullmatch(pattern, path)), OTHER)
