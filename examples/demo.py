"""The whole product in one go: history in, segments and a campaign on top, live calls, and what came of them.

``make demo`` runs it. It starts a server on a new temporary folder and talks to it as anybody would: over HTTP and
with the command ``backstory``. Everything it prints was asked of the server; what it expects is computed from the
file by a plain loop. In a terminal the server stays until Ctrl-C; without one, or with ONCE=1, the demo ends by itself.
The exit code is 1 if anything was not as expected.
"""

import base64
import csv
import email
import email.policy
import gzip
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FILE = Path("examples") / "cdnow_purchases.csv.gz"
CUSTOMER = "00568"
DAY_S = 86_400
START_S = 60
MAIL_S = 30
# Fixed, so that the calls below can be pasted. A real server makes keys of its own at its first start.
SITE_ID, TRACK_KEY, APP_KEY = "demo-site", "demo-track-key", "demo-app-key"
# What is taken from the user's environment: a mail server, when there is one.
KEPT = ("BACKSTORY_SMTP_URL",)

Purchase = tuple[float, float]  # when (unix seconds), dollars


def unix(day: str) -> int:
    """Midnight UTC at the start of a day, in unix seconds."""
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp())


def bought(**how: object) -> dict[str, Any]:
    """The condition of having bought, under the circumstances given."""
    return {"event": {"name": "purchased", **how}}


def within(start: str, end: str) -> dict[str, Any]:
    return {"from": unix(start), "to": unix(end)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A segment as the API takes it, and the same question in plain Python, to compare the answers."""

    name: str
    description: str
    conditions: dict[str, Any]
    plain: Callable[[list[Purchase], float], bool]  # purchases up to now, now


def between(purchases: list[Purchase], start: str, end: str) -> bool:
    return any(unix(start) <= when < unix(end) for when, _ in purchases)


SEGMENTS = (
    Segment(
        name="Regulars",
        description="bought at least 5 times",
        conditions=bought(count={"at_least": 5}),
        plain=lambda purchases, now: len(purchases) >= 5,
    ),
    Segment(
        name="Spenders",
        description="spent more than 100 dollars at once",
        conditions=bought(where={"attribute": {"field": "dollars", "operator": "gt", "value": 100}}),
        plain=lambda purchases, now: any(dollars > 100 for _, dollars in purchases),
    ),
    Segment(
        name="Active",
        description="bought within the last 30 days",
        conditions=bought(within={"last_s": 30 * DAY_S}),
        plain=lambda purchases, now: any(now - 30 * DAY_S < when for when, _ in purchases),
    ),
    Segment(
        name="Returned",
        description="bought in 1998, but not in the half year before",
        conditions={
            "and": [
                bought(within=within("1998-01-01", "1999-01-01")),
                {"not": bought(within=within("1997-07-01", "1998-01-01"))},
            ]
        },
        plain=lambda purchases, now: (
            between(purchases, "1998-01-01", "1999-01-01") and not between(purchases, "1997-07-01", "1998-01-01")
        ),
    ),
)
DAYS = ("1997-06-01", "1998-03-01")

CAMPAIGN = {
    "name": "Thank you",
    "trigger": {"event": {"name": "purchased"}},
    "frequency": {"mode": "every"},
    "steps": [
        {
            "type": "email",
            "from": "CD shop <shop@example.com>",
            "to": "{{customer.email}}",
            "subject": "Thank you, {{customer.first_name}}",
            "body": "Hello {{customer.first_name}},\n\nthank you for the {{event.dollars}} dollars of "
            '{{event_timestamp | date: "%-d %B %Y"}}.\n',
        }
    ],
    "state": "running",
}


class Failed(Exception):
    """The demo cannot go on."""


class Demo:
    """A running server, and what was not as expected so far."""

    def __init__(self, data: Path, port: int) -> None:
        self.data = data
        self.url = f"http://127.0.0.1:{port}"
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("BACKSTORY_") or name in KEPT},
            "BACKSTORY_DATA": str(data),
            "BACKSTORY_PORT": str(port),
            "BACKSTORY_SITE_ID": SITE_ID,
            "BACKSTORY_TRACK_KEY": TRACK_KEY,
            "BACKSTORY_APP_KEY": APP_KEY,
        }
        self.wrong: list[str] = []

    def expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.wrong.append(f"{what}: {found}, expected {expected}")

    def app(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Ask the App API."""
        content = None if body is None else json.dumps(body).encode()
        return self._call(method, path, content, {"Authorization": f"Bearer {APP_KEY}", "Backstory-Wait": "applied"})

    def track(self, method: str, path: str, body: dict[str, Any], *, form: bool = False) -> str:
        """Send a call to the Track API, and say what became of it once it is applied."""
        content = urllib.parse.urlencode(body, safe="[]@").encode() if form else json.dumps(body).encode()
        headers = {
            "Authorization": "Basic " + base64.b64encode(f"{SITE_ID}:{TRACK_KEY}".encode()).decode(),
            "Content-Type": "application/x-www-form-urlencoded" if form else "application/json",
            "Backstory-Wait": "applied",
        }
        return str(self._call(method, path, content, headers)["receipt"]["result"])

    def _call(self, method: str, path: str, content: bytes | None, headers: dict[str, str]) -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, content, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise Failed(f"{method} {path} was answered {error.code}: {error.read().decode()}") from None

    def command(self, *words: str) -> subprocess.Popen[str]:
        """Start ``backstory WORDS``; its progress shows on this terminal, if there is one."""
        command = [sys.executable, "-m", "backstory", *words]
        beside = None if sys.stderr.isatty() else subprocess.STDOUT
        return subprocess.Popen(
            command, cwd=ROOT, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=beside
        )

    def count(self, segment_id: int, day: str | None = None) -> int:
        query = "" if day is None else f"?as_of={unix(day)}"
        return int(self.app("GET", f"/v1/segments/{segment_id}/customer_count{query}")["count"])


def say(text: str = "") -> None:
    print(text.rstrip(), flush=True)


def head(number: int, text: str) -> None:
    say(f"\n{number}. {text}")


def moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def run(demo: Demo, *words: str) -> str:
    """Run a command, print what it prints, and return that."""
    say(f"   $ backstory {shlex.join(words)}")
    with demo.command(*words) as process:
        printed = process.stdout.read() if process.stdout else ""
    for line in printed.splitlines():
        say(f"   {line}")
    demo.expect(f"exit code of backstory {words[0]}", process.returncode, 0)
    return printed


def history() -> dict[str, list[Purchase]]:
    """The file as a plain loop reads it."""
    people: dict[str, list[Purchase]] = {}
    with gzip.open(ROOT / FILE, "rt", newline="") as lines:
        for row in csv.DictReader(lines):
            people.setdefault(row["customer_id"], []).append((float(row["timestamp"]), float(row["data.dollars"])))
    return people


def backfill(demo: Demo, people: dict[str, list[Purchase]]) -> None:
    head(2, "One and a half years of purchases come in, beside the running server")
    run(demo, "backfill", "events", str(FILE))
    imported = demo.app("GET", "/v1/imports/1")["import"]
    demo.expect("rows imported", imported["rows_imported"], sum(map(len, people.values())))
    demo.expect("people created", imported["summary"]["people_created"], len(people))


def segments(demo: Demo, people: dict[str, list[Purchase]]) -> dict[str, int]:
    head(3, "Segments over that history, asked about today and about other days")
    say(f"   {'':58}" + "".join(f"{day:>11}" for day in (*DAYS, "today")))
    made: dict[str, int] = {}
    for one in SEGMENTS:
        wanted = {"name": one.name, "description": one.description, "type": "dynamic", "conditions": one.conditions}
        shown = demo.app("POST", "/v1/segments", {"segment": wanted})["segment"]
        made[one.name] = shown["id"]
        counts = [demo.count(shown["id"], day) for day in (*DAYS, None)]
        say(f"   {shown['name']:<10}{shown['description']:<48}" + "".join(f"{count:>11,}" for count in counts))
        demo.expect(one.name, counts, [plain_count(one, people, day) for day in (*map(unix, DAYS), time.time())])
    if not demo.wrong:
        say("   A plain loop over the file counts the same.")
    return made


def plain_count(segment: Segment, people: dict[str, list[Purchase]], now: float) -> int:
    """How many are in a segment, by reading everything again."""
    known = ([one for one in purchases if one[0] <= now] for purchases in people.values())
    return sum(segment.plain(purchases, now) for purchases in known if purchases)


def campaign(demo: Demo) -> int:
    head(4, "A campaign: whoever buys gets a mail")
    made = demo.app("POST", "/v1/campaigns", {"campaign": CAMPAIGN})["campaign"]
    say(f"   campaign {made['id']} \"{made['name']}\" is {made['state']}; the same file once more, now with it:")
    run(demo, "backfill", "events", str(FILE))
    again = demo.app("GET", "/v1/imports/2")["import"]["summary"]
    demo.expect("rows of the second run that were there", again["duplicate"], again["rows"])
    return int(made["id"])


def live(demo: Demo, people: dict[str, list[Purchase]], made: dict[str, int], campaign_id: int) -> None:
    now = int(time.time())
    head(5, f"Live calls about customer {CUSTOMER}, who has bought {len(people[CUSTOMER])} times so far")
    say(f"   {'':34}{'receipt':<9}" + "".join(f"{name:>10}" for name in (*list(made)[:3], "journeys")))
    path = f"/api/v1/customers/{CUSTOMER}"
    person = {"email": "ann@example.com", "first_name": "Ann"}
    old = {"name": "purchased", "data[price]": "23.45", "timestamp": 1359389415}
    late = {"name": "purchased", "data": {"dollars": 120}, "timestamp": now - 4 * DAY_S}
    fresh = {"name": "purchased", "data": {"dollars": 42.75}}
    tell(demo, made, campaign_id, "before", "")
    tell(demo, made, campaign_id, "identify: an email address", demo.track("PUT", path, person))
    receipt = demo.track("POST", f"{path}/events", old, form=True)
    tell(demo, made, campaign_id, f"purchase of {moment(1359389415)[:10]}, as a form", receipt)
    tell(demo, made, campaign_id, "purchase of four days ago, $120", demo.track("POST", f"{path}/events", late))
    tell(demo, made, campaign_id, "purchase of this moment, $42.75", demo.track("POST", f"{path}/events", fresh))
    say("   All three count. Only the last is fresh enough (72 hours) to start a journey.")
    mine = [*people[CUSTOMER], (1359389415.0, 23.45), (now - 4.0 * DAY_S, 120.0), (float(now), 42.75)]
    inside = sorted(one.name for one in SEGMENTS if one.plain(mine, time.time()))
    found = demo.app("GET", f"/v1/customers/{CUSTOMER}/segments")["segments"]
    demo.expect(f"segments of {CUSTOMER}", sorted(one["name"] for one in found), inside)
    demo.expect("journeys", len(journeys(demo, campaign_id)), 1)


def journeys(demo: Demo, campaign_id: int) -> list[dict[str, Any]]:
    return list(demo.app("GET", f"/v1/campaigns/{campaign_id}/journeys")["journeys"])


def tell(demo: Demo, made: dict[str, int], campaign_id: int, what: str, receipt: str) -> None:
    """One line of the table of live calls: the members of the segments and the journeys after a call."""
    counts = [demo.count(segment_id) for segment_id in list(made.values())[:3]]
    numbers = "".join(f"{count:>10,}" for count in (*counts, len(journeys(demo, campaign_id))))
    say(f"   {what:<34}{receipt:<9}{numbers}")
    demo.expect(f"receipt of {what}", receipt, "" if what == "before" else "applied")


def mail(demo: Demo, campaign_id: int) -> None:
    head(6, "The mail")
    messages = sent(demo, campaign_id)
    demo.expect("messages", [one["state"] for one in messages], ["sent"])
    for one in messages:
        body = archived = demo.app("GET", f"/v1/messages/{one['id']}/archived_message")["archived_message"]
        shown = {"From": archived["from"], "To": one["recipient"], "Subject": one["subject"]}
        text = archived["body"]
        written = demo.data / "mailbox" / f"{one['id']}.eml"
        if not any(name in demo.environment for name in KEPT):
            parsed = email.message_from_bytes(written.read_bytes(), policy=email.policy.default)
            shown = {name: str(parsed[name]) for name in ("From", "To", "Subject", "Message-ID")}
            body = parsed.get_body(("plain",))
            text = body.get_content() if body is not None else ""
        for name, value in shown.items():
            say(f"   {name}: {value}")
        say()
        for line in text.strip().splitlines():
            say(f"   {line}")
        demo.expect("recipient of the mail", one["recipient"], "ann@example.com")
        demo.expect("the mail names the fresh purchase", "42.75 dollars" in text, True)


def sent(demo: Demo, campaign_id: int) -> list[dict[str, Any]]:
    """The campaign's messages, once none waits any more."""
    deadline = time.monotonic() + MAIL_S
    while True:
        messages = list(demo.app("GET", f"/v1/messages?campaign_id={campaign_id}")["messages"])
        waiting = not messages or any(one["state"] in ("queued", "attempting") for one in messages)
        if not waiting or time.monotonic() > deadline:
            return messages
        time.sleep(0.05)


def log(demo: Demo) -> None:
    head(7, f"The activity log of customer {CUSTOMER}, the last 30 days")
    recent = demo.app("GET", f"/v1/customers/{CUSTOMER}/activities?limit=100")["activities"]
    say(f"   {'type':<18}{'effective':<21}{'processed':<21}")
    for one in recent:
        shown = f"{one.get('name', '')} {details(one['data'])}".strip()
        say(f"   {one['type']:<18}{moment(one['timestamp']):<21}{moment(one['processed_at']):<21}{shown}")
    older = demo.app("GET", f"/v1/customers/{CUSTOMER}/activities?limit=100&all=true")["activities"]
    say(f"   With all=true there are {len(older)} entries, the oldest of {moment(older[-1]['timestamp'])[:10]}.")
    oldest = min(one["timestamp"] for one in recent)
    demo.expect("the log hides what is older than 30 days", oldest > time.time() - 30 * DAY_S, True)


def details(data: dict[str, Any]) -> str:
    """The data of an entry of the log, short."""
    values = {name: value["to"] if isinstance(value, dict) else value for name, value in data.items()}
    return ", ".join(f"{name}={value}" for name, value in sorted(values.items()))


def verify(demo: Demo) -> None:
    head(8, "Is everything kept what it must be?")
    run(demo, "verify")


def calls(demo: Demo, *, stays: bool) -> None:
    track, app = f"-u {SITE_ID}:{TRACK_KEY}", f"-H 'Authorization: Bearer {APP_KEY}'"
    when = "" if stays else " (in a terminal the server of the demo stays until Ctrl-C)"
    say(f"""
Calls to try{when}:
   curl {track} {demo.url}/api/v1/customers/{CUSTOMER}/events \\
        -d name=purchased -d 'data[dollars]=80'
   curl {app} {demo.url}/v1/customers/{CUSTOMER}/activities
   curl {app} {demo.url}/v1/segments/1/membership
   curl {app} '{demo.url}/v1/segments/3/customer_count?as_of={unix(DAYS[-1])}'
   curl {app} {demo.url}/v1/campaigns/1/journeys
   .venv/bin/backstory messages list --data {demo.data}""")


def show(demo: Demo, *, stays: bool) -> None:
    """The demo itself, on a server that is ready."""
    people = history()
    head(1, "A server on a new folder")
    say(f"   {demo.url}, data in {demo.data}")
    backfill(demo, people)
    made = segments(demo, people)
    campaign_id = campaign(demo)
    live(demo, people, made, campaign_id)
    mail(demo, campaign_id)
    log(demo)
    verify(demo)
    calls(demo, stays=stays)


def free_port(wanted: int = 8080) -> int:
    """The port wanted if nobody has it, else any."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Failed("no free port")


@contextmanager
def server(demo: Demo) -> Iterator[subprocess.Popen[bytes]]:
    """``backstory serve``, ready; ended at the end. Ctrl-C reaches the demo alone, which ends it in order."""
    printed = demo.data / "server.log"
    with printed.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "backstory", "serve"],
            env=demo.environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + START_S
        while not healthy(demo):
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"the server did not start:\n{printed.read_text()}")
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def healthy(demo: Demo) -> bool:
    try:
        with urllib.request.urlopen(f"{demo.url}/health", timeout=5) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def stay(process: subprocess.Popen[bytes]) -> None:
    """Leave the server to the user until Ctrl-C."""
    say("\nThe server runs until Ctrl-C; then its folder goes too.")
    try:
        process.wait()
    except KeyboardInterrupt:
        say("\nending")
        return
    raise Failed("the server ended by itself")


def interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    stays = sys.stdout.isatty() and os.environ.get("ONCE", "") in ("", "0")
    data = Path(tempfile.mkdtemp(prefix="backstory-demo-"))
    demo = Demo(data, free_port())
    say(f"Backstory: {FILE.name} becomes history, live calls come on top, and what follows from both")
    try:
        with server(demo) as process:
            show(demo, stays=stays)
            if stays and not demo.wrong:
                stay(process)
    except Failed as error:
        demo.wrong.append(str(error))
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(data, ignore_errors=True)
    for one in demo.wrong:
        say(f"NOT AS EXPECTED: {one}")
    return 1 if demo.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
