"""The tables of ``state.db``. One format version; a folder of a newer version is refused."""

FORMAT_VERSION = 1

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;

-- Identifiers are unique among the living; email_key is the email in the form in which it is compared.
CREATE TABLE person (
    person INTEGER PRIMARY KEY,
    id TEXT, email TEXT, email_key TEXT,
    created_us INTEGER NOT NULL, accept_us INTEGER NOT NULL, import_id INTEGER NOT NULL,
    document BLOB NOT NULL, phone TEXT
);
CREATE UNIQUE INDEX person_id ON person (id) WHERE id IS NOT NULL;
CREATE UNIQUE INDEX person_email ON person (email_key) WHERE email_key IS NOT NULL;
CREATE UNIQUE INDEX person_phone ON person (phone) WHERE phone IS NOT NULL;
CREATE INDEX person_import ON person (import_id) WHERE import_id > 0;
-- Whom each import has named, by each kind of identifier, and whom it gave one: roaring bitmaps of people.
CREATE TABLE naming (
    import_id INTEGER NOT NULL, kind TEXT NOT NULL, named BLOB NOT NULL, given BLOB NOT NULL,
    PRIMARY KEY (import_id, kind)
) WITHOUT ROWID;
-- Identifiers that an import gave and that others than imports have named since: they stay when it is taken back.
CREATE TABLE confirmed (kind TEXT NOT NULL, person INTEGER NOT NULL, PRIMARY KEY (kind, person)) WITHOUT ROWID;
-- The newest of them: in order of person each would rewrite a page of its own at every commit.
CREATE TABLE confirmed_newly (kind TEXT NOT NULL, person INTEGER NOT NULL);
-- Identifiers in whose place an import gave others, and which.
CREATE TABLE replaced (
    import_id INTEGER NOT NULL, person INTEGER NOT NULL, kind TEXT NOT NULL, value TEXT NOT NULL, given TEXT NOT NULL,
    PRIMARY KEY (import_id, person, kind)
) WITHOUT ROWID;
-- Until when an identifier named somebody who is gone: they were deleted, or merged into the survivor.
CREATE TABLE tombstone (
    kind TEXT NOT NULL, value TEXT NOT NULL, deleted_us INTEGER NOT NULL, person INTEGER NOT NULL, survivor INTEGER,
    PRIMARY KEY (kind, value, deleted_us, person)
) WITHOUT ROWID;
CREATE INDEX tombstone_person ON tombstone (person);
-- Everybody who is gone; survivor is who has taken over a merged person, whatever became of those in between.
CREATE TABLE deleted (
    person INTEGER PRIMARY KEY, id TEXT, email TEXT, phone TEXT, deleted_us INTEGER NOT NULL, survivor INTEGER,
    suppressed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX deleted_survivor ON deleted (survivor) WHERE survivor IS NOT NULL;
-- All that is kept of who was suppressed: keyed hashes of their identifiers, as tombstones and, while blocked, as a
-- bar; those with one number were one person's.
CREATE TABLE suppressed (
    hash BLOB NOT NULL, at_us INTEGER NOT NULL, survivor INTEGER, number INTEGER NOT NULL, blocked INTEGER NOT NULL,
    PRIMARY KEY (hash, at_us)
) WITHOUT ROWID;
CREATE INDEX suppressed_number ON suppressed (number);
CREATE INDEX suppressed_survivor ON suppressed (survivor) WHERE survivor IS NOT NULL;
-- Whose data are still to go, since when they are gone, and how far that is (store/purge.py says which stages there
-- are); a number below zero is that of a name which nobody had when it was suppressed. again_us: named once more since
-- that began.
CREATE TABLE purge (
    number INTEGER PRIMARY KEY, gone_us INTEGER NOT NULL, stage INTEGER NOT NULL, again_us INTEGER
);
CREATE INDEX purge_next ON purge (stage, gone_us);
-- How many events more, or fewer, of an import lie in parts than it made: copies made by merges, and what was purged.
CREATE TABLE import_drift (import_id INTEGER PRIMARY KEY, events INTEGER NOT NULL);
CREATE TABLE claim (anonymous_id TEXT PRIMARY KEY, person INTEGER NOT NULL, at_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX claim_person ON claim (person);

-- Records come and go in time: seen_us and gone_us are the newest moments that said each, there when seen >= gone.
CREATE TABLE device (
    person INTEGER NOT NULL, token TEXT NOT NULL, seen_us INTEGER NOT NULL, gone_us INTEGER NOT NULL,
    document BLOB NOT NULL, PRIMARY KEY (person, token)
) WITHOUT ROWID;
CREATE INDEX device_token ON device (token);
CREATE TABLE object_type (type_id INTEGER PRIMARY KEY, created_us INTEGER NOT NULL);
CREATE TABLE object (
    object INTEGER PRIMARY KEY, type_id INTEGER NOT NULL, object_id TEXT NOT NULL, created_us INTEGER NOT NULL,
    seen_us INTEGER NOT NULL, gone_us INTEGER NOT NULL, document BLOB NOT NULL
);
CREATE UNIQUE INDEX object_key ON object (type_id, object_id);
CREATE TABLE relationship (
    person INTEGER NOT NULL, object INTEGER NOT NULL, seen_us INTEGER NOT NULL, gone_us INTEGER NOT NULL,
    document BLOB NOT NULL, PRIMARY KEY (person, object)
) WITHOUT ROWID;
CREATE INDEX relationship_object ON relationship (object);
-- Relationships of somebody not yet known, until an identify claims the anonymous id.
CREATE TABLE anonymous_relationship (
    anonymous_id TEXT NOT NULL, object INTEGER NOT NULL, seen_us INTEGER NOT NULL, gone_us INTEGER NOT NULL,
    document BLOB NOT NULL, PRIMARY KEY (anonymous_id, object)
) WITHOUT ROWID;
-- What ended a relationship of somebody whom nobody knew; older facts under the same identifier are refused.
CREATE TABLE unrelated (
    kind TEXT NOT NULL, value TEXT NOT NULL, object INTEGER NOT NULL, gone_us INTEGER NOT NULL,
    PRIMARY KEY (kind, value, object)
) WITHOUT ROWID;
-- The history of records: attributes NULL where one ended. Devices have a token, relationships both numbers.
CREATE TABLE record_write (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, person INTEGER, object INTEGER, token TEXT, anonymous_id TEXT,
    time_us INTEGER NOT NULL, accept_us INTEGER NOT NULL, attributes TEXT, import_id INTEGER NOT NULL
);
CREATE INDEX record_write_person ON record_write (person) WHERE person IS NOT NULL;
CREATE INDEX record_write_object ON record_write (object) WHERE kind = 'object';
CREATE INDEX record_write_anonymous ON record_write (anonymous_id) WHERE anonymous_id IS NOT NULL;
CREATE INDEX record_write_import ON record_write (import_id, kind, seq) WHERE import_id > 0;
-- The same of imports that were taken back: no reader looks at them, redo and purge do.
CREATE TABLE retracted_write (
    seq INTEGER PRIMARY KEY, kind TEXT NOT NULL, person INTEGER, object INTEGER, token TEXT, anonymous_id TEXT,
    time_us INTEGER NOT NULL, accept_us INTEGER NOT NULL, attributes TEXT, import_id INTEGER NOT NULL
);
CREATE INDEX retracted_write_import ON retracted_write (import_id, kind, seq);
CREATE INDEX retracted_write_person ON retracted_write (person) WHERE person IS NOT NULL;
CREATE INDEX retracted_write_object ON retracted_write (object);

-- The tail: the newest history, not yet in parts. Where a person's events and attribute writes are, and which keys are
-- known, is kept in memory (store/tail_index.py): an index here would rewrite a page for each of them.
CREATE TABLE event (
    seq INTEGER PRIMARY KEY, person INTEGER NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
    time_us INTEGER NOT NULL, accept_us INTEGER NOT NULL, data TEXT NOT NULL,
    event_id TEXT, key INTEGER, import_id INTEGER NOT NULL, duplicate INTEGER NOT NULL
);
CREATE TABLE attribute_write (
    seq INTEGER PRIMARY KEY, person INTEGER NOT NULL, time_us INTEGER NOT NULL, accept_us INTEGER NOT NULL,
    attributes TEXT NOT NULL, changes TEXT, created INTEGER NOT NULL, import_id INTEGER NOT NULL
);
-- The same of an import's step, packed (store/write_block.py), until they become a part.
CREATE TABLE write_block (
    seq INTEGER PRIMARY KEY, rows INTEGER NOT NULL, accept_us INTEGER NOT NULL, import_id INTEGER NOT NULL,
    low_person INTEGER NOT NULL, high_person INTEGER NOT NULL, body BLOB NOT NULL
);
CREATE TABLE anonymous_event (
    seq INTEGER PRIMARY KEY, anonymous_id TEXT, name TEXT NOT NULL, kind TEXT NOT NULL, time_us INTEGER NOT NULL,
    accept_us INTEGER NOT NULL, data TEXT NOT NULL, event_id TEXT, timed INTEGER NOT NULL
);
CREATE INDEX anonymous_event_id ON anonymous_event (anonymous_id);
CREATE TABLE activity (
    seq INTEGER PRIMARY KEY, person INTEGER, type TEXT NOT NULL, time_us INTEGER NOT NULL,
    accept_us INTEGER NOT NULL, data TEXT NOT NULL, delivery_id TEXT, import_id INTEGER NOT NULL
);
CREATE INDEX activity_person ON activity (person);
CREATE INDEX activity_import ON activity (import_id) WHERE import_id > 0;
CREATE TABLE transition (
    seq INTEGER PRIMARY KEY, segment_id INTEGER NOT NULL, person INTEGER NOT NULL, entered INTEGER NOT NULL,
    effective_us INTEGER NOT NULL, at_us INTEGER NOT NULL
);
CREATE INDEX transition_segment ON transition (segment_id);
-- The same of many people whom a build moved at once: a bitmap of people, and in their order since when they are where
-- they are (64 bits each), NULL until it is looked up. Or of those whom an import moved, or the taking back of one: of
-- these since when is told when somebody asks.
CREATE TABLE transition_block (
    seq INTEGER PRIMARY KEY, segment_id INTEGER NOT NULL, entered INTEGER NOT NULL, at_us INTEGER NOT NULL,
    people BLOB NOT NULL, effective_us BLOB, import_id INTEGER
);
CREATE INDEX transition_block_segment ON transition_block (segment_id);
-- An event dated in the future waits here until its moment.
CREATE TABLE future (
    seq INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, person INTEGER NOT NULL, body BLOB NOT NULL,
    import_id INTEGER NOT NULL
);
CREATE INDEX future_at ON future (at_us);
CREATE INDEX future_person ON future (person);

CREATE TABLE segment (
    segment_id INTEGER PRIMARY KEY, name TEXT NOT NULL, description TEXT NOT NULL, conditions TEXT,
    created_us INTEGER NOT NULL, updated_us INTEGER NOT NULL, built INTEGER NOT NULL
);
-- Builds of segments under way: when they were asked for, and people of whom a fact or an import told something since.
CREATE TABLE build (segment_id INTEGER PRIMARY KEY, asked_us INTEGER NOT NULL);
CREATE TABLE build_told (
    number INTEGER PRIMARY KEY, segment_id INTEGER NOT NULL, imported INTEGER NOT NULL, people BLOB NOT NULL
);
CREATE TABLE manual_member (
    segment_id INTEGER NOT NULL, person INTEGER NOT NULL, PRIMARY KEY (segment_id, person)
) WITHOUT ROWID;

-- When somebody was put into a manual segment, or taken out: its history.
CREATE TABLE placement (
    seq INTEGER PRIMARY KEY, segment_id INTEGER NOT NULL, person INTEGER NOT NULL, at_us INTEGER NOT NULL,
    entered INTEGER NOT NULL, import_id INTEGER NOT NULL
);
CREATE INDEX placement_segment ON placement (segment_id);
CREATE INDEX placement_person ON placement (person);
CREATE INDEX placement_import ON placement (import_id) WHERE import_id > 0;
-- The same of imports that were taken back.
CREATE TABLE retracted_placement (
    seq INTEGER PRIMARY KEY, segment_id INTEGER NOT NULL, person INTEGER NOT NULL, at_us INTEGER NOT NULL,
    entered INTEGER NOT NULL, import_id INTEGER NOT NULL
);
CREATE INDEX retracted_placement_import ON retracted_placement (import_id);
CREATE INDEX retracted_placement_person ON retracted_placement (person);

CREATE TABLE campaign (
    campaign_id INTEGER PRIMARY KEY, definition TEXT NOT NULL, state TEXT NOT NULL, created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL, first_started_us INTEGER, started_us INTEGER
);
-- Who was in a segment when a campaign over it began and is still to begin their journey, as a bitmap.
CREATE TABLE campaign_start (campaign_id INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, people BLOB NOT NULL);
CREATE TABLE journey (
    journey_id INTEGER PRIMARY KEY, campaign_id INTEGER NOT NULL, person INTEGER NOT NULL, state TEXT NOT NULL,
    entered_us INTEGER, wake_us INTEGER, body BLOB NOT NULL, import_id INTEGER NOT NULL
);
CREATE INDEX journey_wake ON journey (wake_us) WHERE wake_us IS NOT NULL;
CREATE INDEX journey_person ON journey (person, campaign_id);
CREATE INDEX journey_campaign ON journey (campaign_id);
CREATE INDEX journey_import ON journey (import_id) WHERE import_id > 0;
CREATE INDEX journey_filtering ON journey (person) WHERE state = 'filtering';
CREATE TABLE decision (
    seq INTEGER PRIMARY KEY, journey_id INTEGER NOT NULL, action_id INTEGER NOT NULL, type TEXT NOT NULL,
    decision TEXT NOT NULL, reason TEXT NOT NULL, at_us INTEGER NOT NULL
);
CREATE INDEX decision_journey ON decision (journey_id);
CREATE TABLE delivery (
    delivery_id TEXT PRIMARY KEY, seq INTEGER NOT NULL, journey_id INTEGER NOT NULL, campaign_id INTEGER NOT NULL,
    action_id INTEGER NOT NULL, person INTEGER NOT NULL, kind TEXT NOT NULL, state TEXT NOT NULL, body BLOB NOT NULL,
    attempts INTEGER NOT NULL, created_us INTEGER NOT NULL, ready_us INTEGER, metrics TEXT NOT NULL, failure TEXT,
    trigger_event_id TEXT
) WITHOUT ROWID;
CREATE INDEX delivery_ready ON delivery (ready_us) WHERE ready_us IS NOT NULL;
CREATE INDEX delivery_campaign ON delivery (campaign_id);
CREATE INDEX delivery_person ON delivery (person);
CREATE INDEX delivery_seq ON delivery (seq);
CREATE INDEX delivery_state ON delivery (state) WHERE state IN ('queued', 'attempting', 'in_doubt');

CREATE TABLE import (
    import_id INTEGER PRIMARY KEY, fingerprint TEXT NOT NULL, options TEXT NOT NULL, state TEXT NOT NULL,
    accept_us INTEGER NOT NULL, updated_us INTEGER NOT NULL, progress TEXT NOT NULL, error TEXT NOT NULL
);
-- Who was in segments when an unfinished import began, but for what others moved since: roaring bitmaps of people.
CREATE TABLE baseline (
    import_id INTEGER NOT NULL, segment_id INTEGER NOT NULL, members BLOB NOT NULL, PRIMARY KEY (import_id, segment_id)
) WITHOUT ROWID;
-- Imports that were taken back: since when, and how far that is (begun, taken, done).
CREATE TABLE retraction (
    import_id INTEGER PRIMARY KEY, at_us INTEGER NOT NULL, stage TEXT NOT NULL, was TEXT NOT NULL, back INTEGER NOT NULL
);
-- From when to when imports did not count because they were taken back; until 2^62 while they do not.
CREATE TABLE absence (
    import_id INTEGER NOT NULL, from_us INTEGER NOT NULL, until_us INTEGER NOT NULL, PRIMARY KEY (import_id, from_us)
) WITHOUT ROWID;
-- What people lost with imports that were taken back, as it was: it comes back with them. gone: the person went.
-- unsure: one of these identifiers was deleted or suppressed since, so what the import gave does not come back.
CREATE TABLE withdrawn (
    person INTEGER PRIMARY KEY, gone INTEGER NOT NULL, id TEXT, email TEXT, phone TEXT,
    created_us INTEGER NOT NULL, accept_us INTEGER NOT NULL, creator INTEGER NOT NULL, unsure INTEGER NOT NULL,
    email_key TEXT
);
CREATE INDEX withdrawn_id ON withdrawn (id) WHERE id IS NOT NULL;
CREATE INDEX withdrawn_email ON withdrawn (email_key) WHERE email_key IS NOT NULL;
CREATE INDEX withdrawn_phone ON withdrawn (phone) WHERE phone IS NOT NULL;
-- What a folder's history consists of: only files named here count, and of those that are not retracted.
CREATE TABLE part (
    part_id INTEGER PRIMARY KEY, kind TEXT NOT NULL, path TEXT NOT NULL, rows INTEGER NOT NULL,
    checksum TEXT NOT NULL, bytes INTEGER NOT NULL, low_us INTEGER NOT NULL, high_us INTEGER NOT NULL,
    import_id INTEGER NOT NULL, seq INTEGER NOT NULL, mixed INTEGER NOT NULL, retracted INTEGER NOT NULL
);
CREATE TABLE key_run (
    run_id INTEGER PRIMARY KEY, path TEXT NOT NULL, rows INTEGER NOT NULL, checksum TEXT NOT NULL,
    import_id INTEGER NOT NULL, duplicate INTEGER NOT NULL, retracted INTEGER NOT NULL
);
-- Checkpoints of leaves: derived, rebuilt when missing. Each holds every fact up to its seq with a time up to now_us,
-- and every person below next_person.
CREATE TABLE leaf (
    leaf_id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, seq INTEGER NOT NULL, now_us INTEGER NOT NULL,
    next_person INTEGER NOT NULL
);
CREATE TABLE leaf_page (
    leaf_id INTEGER NOT NULL, page INTEGER NOT NULL, checksum INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (leaf_id, page)
);
"""
