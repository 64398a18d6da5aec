"""Every limit in one table: its value, unit, reason, and the text of its refusal.

Source: ``docs/limits.md`` is generated from here; the tests try each at the limit and one past it.
KB are 1,024 bytes where the original says KB; event data has its own 100,000 bytes.
"""

from dataclasses import dataclass

from backstory.core.error import LimitError


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    name: str
    value: int
    unit: str
    reason: str
    message: str

    def check(self, amount: int, *, path: str = "", subject: str = "") -> None:
        """Raise ``LimitError`` when ``amount`` (in the limit's unit) is past the limit."""
        if amount > self.value:
            raise LimitError(self.message.format(subject=subject, value=self.value), path=path)


ID_BYTES = Limit(
    name="id_bytes", value=150, unit="bytes", reason="the original's limit for the id of a person",
    message="id cannot be longer than {value} bytes",
)
EMAIL_BYTES = Limit(
    name="email_bytes", value=254, unit="bytes", reason="RFC 5321: the longest address that mail can be sent to",
    message="email cannot be longer than {value} bytes",
)
ATTRIBUTE_NAME_BYTES = Limit(
    name="attribute_name_bytes", value=150, unit="bytes", reason="the original's limit",
    message="attribute name cannot be longer than {value} bytes",
)
ATTRIBUTE_VALUE_BYTES = Limit(
    name="attribute_value_bytes", value=1000, unit="bytes", reason="the original's limit",
    message="value for attribute '{subject}' cannot be longer than {value} bytes",
)
ATTRIBUTES_PER_CALL = Limit(
    name="attributes_per_call", value=300, unit="attributes", reason="the original's limit",
    message="cannot identify more than {value} attributes in one request",
)
ATTRIBUTES_PER_PERSON = Limit(
    name="attributes_per_person", value=300, unit="attributes", reason="the original's limit",
    message="a person cannot have more than {value} attributes",
)
DEVICE_TOKEN_BYTES = Limit(
    name="device_token_bytes", value=4096, unit="bytes", reason="ours: several times the longest token of a platform",
    message="the token of a device cannot be longer than {value} bytes",
)
DEVICES_PER_PERSON = Limit(
    name="devices_per_person", value=100, unit="devices", reason="ours: more is one token for each start of an app",
    message="a person cannot have more than {value} devices",
)
DEVICE_ATTRIBUTES = Limit(
    name="device_attributes", value=300, unit="attributes", reason="ours: the limit of people and objects",
    message="a device cannot have more than {value} attributes",
)
OBJECT_ID_BYTES = Limit(
    name="object_id_bytes", value=150, unit="bytes", reason="the original's limit",
    message="object_id cannot be longer than {value} bytes",
)
OBJECT_TYPE_ID = Limit(
    name="object_type_id", value=10_000, unit="number", reason="ours: a type is made by its first use; not by a typo",
    message="object_type_id cannot be greater than {value}",
)
OBJECT_ATTRIBUTES = Limit(
    name="object_attributes", value=300, unit="attributes", reason="the original's limit",
    message="an object or a relationship cannot have more than {value} attributes",
)
OBJECT_ATTRIBUTE_BYTES = Limit(
    name="object_attribute_bytes", value=100 * 1024, unit="bytes", reason="the original's limit",
    message="the attributes of an object or a relationship cannot be longer than {value} bytes in all",
)
RELATIONSHIPS_PER_PERSON = Limit(
    name="relationships_per_person", value=1000, unit="relationships",
    reason="ours: all of them are read when one of them changes",
    message="a person cannot have more than {value} relationships",
)
EVENT_NAME_BYTES = Limit(
    name="event_name_bytes", value=100, unit="bytes", reason="the original's limit",
    message="event name cannot be longer than {value} bytes",
)
EVENT_DATA_BYTES = Limit(
    name="event_data_bytes", value=100_000, unit="bytes", reason="the original's limit",
    message="event data cannot be longer than {value} bytes",
)
EVENT_ID_BYTES = Limit(
    name="event_id_bytes", value=150, unit="bytes", reason="an id of an imported event or a Pipelines message",
    message="event id cannot be longer than {value} bytes",
)
ENTITY_BODY_BYTES = Limit(
    name="entity_body_bytes", value=32 * 1024, unit="bytes", reason="the original's limit of one Track v2 operation",
    message="an operation cannot be longer than {value} bytes",
)
BATCH_BODY_BYTES = Limit(
    name="batch_body_bytes", value=500 * 1024, unit="bytes", reason="the original's limit of a batch of Track v2",
    message="a batch cannot be longer than {value} bytes",
)
BATCH_ITEM_BYTES = Limit(
    name="batch_item_bytes", value=32 * 1024, unit="bytes", reason="the original's limit of one item of a batch",
    message="an item of a batch cannot be longer than {value} bytes",
)
PIPELINES_CALL_BYTES = Limit(
    name="pipelines_call_bytes", value=32 * 1024, unit="bytes", reason="the original's limit of one Pipelines call",
    message="a call cannot be longer than {value} bytes",
)
PIPELINES_BATCH_BYTES = Limit(
    name="pipelines_batch_bytes", value=500 * 1024, unit="bytes",
    reason="the original's limit of a Pipelines batch, unpacked",
    message="a batch cannot be longer than {value} bytes",
)
BODY_WAIT_S = Limit(
    name="body_wait_s", value=30, unit="seconds", reason="a body that takes longer holds a connection for nothing",
    message="the body did not arrive within {value} seconds",
)
HEAD_WAIT_S = Limit(
    name="head_wait_s", value=15, unit="seconds", reason="a client that sends a byte now and then holds a connection",
    message="the head of the request did not arrive within {value} seconds",
)
HEAD_BYTES = Limit(
    name="head_bytes", value=64 * 1024, unit="bytes", reason="longer headers are an attack, not a call",
    message="the head of a request cannot be longer than {value} bytes",
)
DELIVERY_ID_BYTES = Limit(
    name="delivery_id_bytes", value=150, unit="bytes", reason="ours are shorter",
    message="delivery_id cannot be longer than {value} bytes",
)
METRIC_TEXT_BYTES = Limit(
    name="metric_text_bytes", value=2000, unit="bytes", reason="a link or the words of a mail server",
    message="{subject} cannot be longer than {value} bytes",
)
TRACK_BODY_BYTES = Limit(
    name="track_body_bytes", value=512 * 1024, unit="bytes",
    reason="room for 300 attributes of 1,000 bytes, or event data of 100,000 bytes written with escapes",
    message="the body cannot be longer than {value} bytes",
)
APP_BODY_BYTES = Limit(
    name="app_body_bytes", value=1024 * 1024, unit="bytes", reason="definitions are small",
    message="the body cannot be longer than {value} bytes",
)
FORM_PAIRS = Limit(
    name="form_pairs", value=10_000, unit="pairs", reason="a form is written by hand; more is an attack, not data",
    message="a form cannot have more than {value} pairs",
)
JSON_DEPTH = Limit(
    name="json_depth", value=64, unit="levels", reason="deeper data is an attack, not data",
    message="data cannot be nested deeper than {value} levels",
)
MEMBERS_PER_CALL = Limit(
    name="members_per_call", value=1000, unit="ids", reason="the original's limit",
    message="cannot change more than {value} people in one request",
)
CONDITION_COUNT = Limit(
    name="condition_count", value=1000, unit="occurrences", reason="a leaf keeps that many times of each person",
    message="a count cannot be greater than {value}",
)
CONDITION_NODES = Limit(
    name="condition_nodes", value=200, unit="nodes", reason="a tree a person can still read",
    message="a condition cannot have more than {value} nodes",
)
CONDITION_DEPTH = Limit(
    name="condition_depth", value=20, unit="levels", reason="a tree a person can still read",
    message="a condition cannot be nested deeper than {value} levels",
)
CONDITION_VALUES = Limit(
    name="condition_values", value=1000, unit="values", reason="longer lists are a manual segment",
    message="a list of values cannot be longer than {value}",
)
CONDITION_TEXT_BYTES = Limit(
    name="condition_text_bytes", value=1000, unit="bytes", reason="no attribute value is longer",
    message="text in a condition cannot be longer than {value} bytes",
)
CONDITION_WINDOW_S = Limit(
    name="condition_window_s", value=3_155_760_000, unit="seconds", reason="a hundred years; more is milliseconds",
    message="a stretch of time cannot be longer than {value} seconds (a hundred years)",
)
HISTORY_POINTS = Limit(
    name="history_points", value=1000, unit="points", reason="more than a chart can show",
    message="a history cannot have more than {value} points",
)
CAMPAIGN_STEPS = Limit(
    name="campaign_steps", value=100, unit="steps", reason="a workflow a person can still read",
    message="a campaign cannot have more than {value} steps",
)
CAMPAIGN_DELAY_S = Limit(
    name="campaign_delay_s", value=31_536_000, unit="seconds", reason="a year; who waits longer has forgotten why",
    message="a delay cannot be longer than {value} seconds (a year)",
)
CAMPAIGN_INTERVAL_S = Limit(
    name="campaign_interval_s", value=315_360_000, unit="seconds", reason="ten years; longer is once",
    message="the interval between two journeys cannot be longer than {value} seconds (ten years)",
)
ADDRESS_CHARACTERS = Limit(
    name="address_characters", value=1000, unit="characters", reason="an address with a name, or a template of one",
    message="an address cannot be longer than {value} characters",
)
SUBJECT_CHARACTERS = Limit(
    name="subject_characters", value=1000, unit="characters", reason="longer subjects are cut by every mail program",
    message="a subject cannot be longer than {value} characters",
)
MESSAGE_BODY_BYTES = Limit(
    name="message_body_bytes", value=200_000, unit="bytes", reason="mail programs cut messages at about half of it",
    message="the body of a message cannot be longer than {value} bytes",
)
URL_CHARACTERS = Limit(
    name="url_characters", value=2000, unit="characters", reason="what servers and proxies take",
    message="a URL cannot be longer than {value} characters",
)
TEMPLATE_TAGS = Limit(
    name="template_tags", value=2000, unit="tags and outputs", reason="a template a person can still read",
    message="a template cannot have more than {value} tags and outputs",
)
TEMPLATE_TAG_CHARACTERS = Limit(
    name="template_tag_characters", value=4000, unit="characters", reason="what stands between two braces is short",
    message="a tag cannot be longer than {value} characters",
)
TEMPLATE_TERMS = Limit(
    name="template_terms", value=100, unit="terms", reason="a question in a tag that a person can still read",
    message="a tag cannot have more than {value} terms",
)
TEMPLATE_WORK = Limit(
    name="template_work", value=100_000, unit="steps", reason="rendering holds the loop; a fraction of a second",
    message="the template does more than {value} steps of work; loop over less",
)
TEMPLATE_VALUE_BYTES = Limit(
    name="template_value_bytes", value=1_000_000, unit="bytes", reason="what a template makes stays in memory",
    message="the template makes more than {value} bytes",
)
NAME_CHARACTERS = Limit(
    name="name_characters", value=250, unit="characters", reason="the name of a segment, campaign or import",
    message="name cannot be longer than {value} characters",
)
BACKLOG_FACTS = Limit(
    name="backlog_facts", value=500_000, unit="facts", reason="accepted and not yet applied; more answers 429",
    message="the backlog holds {value} facts",
)
BACKLOG_BYTES = Limit(
    name="backlog_bytes", value=400_000_000, unit="bytes", reason="the same, by the memory it takes; more answers 429",
    message="the backlog holds {value} bytes",
)

PROGRESS_STREAMS = Limit(
    name="progress_streams", value=16, unit="streams", reason="each stream of an import's progress holds a thread",
    message="more than {value} streams of progress cannot be open",
)

IMPORTS_WAITING = Limit(
    name="imports_waiting", value=100, unit="imports", reason="they run one by one, and each keeps a file on disk",
    message="{value} imports are waiting to be run",
)
UPLOADS_UNFINISHED = Limit(
    name="uploads_unfinished", value=100, unit="uploads", reason="each keeps a file on disk for a week",
    message="{value} uploads were begun and not finished",
)
UNPACKED_BYTES = Limit(
    name="unpacked_bytes", value=50_000_000_000, unit="bytes", reason="a packed Parquet file is unpacked to disk first",
    message="it holds more than {value} bytes once it is unpacked",
)

WORKSPACES = Limit(
    name="workspaces", value=100, unit="workspaces", reason="each has threads, files and memory of its own",
    message="a server cannot have more than {value} workspaces",
)

IMPORTS_AT_ONCE = Limit(
    name="imports_at_once", value=2, unit="imports", reason="each takes up to a gigabyte; others wait",
    message="more than {value} imports cannot run at once",
)

LOOP_PEOPLE = Limit(
    name="loop_people", value=131_072, unit="people", reason="while their leaves are put in place, live facts wait",
    message="the leaves of more than {value} people cannot be put in place at once",
)

LOOP_ROWS = Limit(
    name="loop_rows", value=2000, unit="rows", reason="while an undo or a purge writes them, live facts wait",
    message="more than {value} rows cannot be written at once",
)
LOOP_EVENTS = Limit(
    name="loop_events", value=131_072, unit="events", reason="while leaves hear of an import's events, live facts wait",
    message="leaves cannot hear of more than {value} events at once",
)

LIMITS: tuple[Limit, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Limit))
