"""What one live event costs the server, with little behind it and with much: two servers, loaded in turn."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from statistics import median

from bench import process, single_call, stock
from bench.single_call import Tally
from bench.stock import Stock
from bench.workload import Figure, Place, Scale, Workload

SEGMENTS = 20
# So many different calls that most people are met for the first time in a round, in the large folder.
REQUESTS = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    small: Stock
    large: Stock
    rounds: int
    seconds: float


SIZES: dict[Scale, Size] = {
    "quick": Size(
        small=Stock(people=3_000, segments=SEGMENTS, events=30_000),
        large=Stock(people=30_000, segments=SEGMENTS, events=300_000),
        rounds=2,
        seconds=2,
    ),
    "full": Size(
        small=Stock(people=10_000, segments=SEGMENTS, events=100_000),
        large=Stock(people=1_000_000, segments=SEGMENTS, events=10_000_000),
        rounds=4,
        seconds=8,
    ),
}


def run(scale: Scale, place: Place) -> Sequence[Figure]:
    size = SIZES[scale]
    tallies = (Tally(), Tally())
    with ExitStack() as stack:
        servers = [
            stack.enter_context(stock.serve(stock.copy(place, held, held.name))) for held in (size.small, size.large)
        ]
        # What an import left behind is merged once, whatever is live afterwards: its cost is told by itself.
        merged_s = sum(process.until_idle(server[0]) for server in servers)
        for number in range(size.rounds + 1):
            for server, held, tally in zip(servers, (size.small, size.large), tallies, strict=True):
                # The first round, which is short, only warms up.
                _round(size, server, held, tally if number else Tally(), number)
        memory = process.memory_bytes(servers[1][0])
    small, large = tallies
    if small.errors or large.errors:
        raise RuntimeError(f"{small.errors} and {large.errors} answers were not 200")
    return [
        Figure(
            name=f"server time per event, {_told(size.large)} / {_told(size.small)}",
            value=large.us_per_call / small.us_per_call,
            unit="x",
            most=1.5,
        ),
        Figure(name=f"server time per event, {_told(size.small)}", value=small.us_per_call, unit="us"),
        Figure(name=f"server time per event, {_told(size.large)}", value=large.us_per_call, unit="us"),
        Figure(name=f"p99, {_told(size.small)}", value=median(small.p99_ms), unit="ms"),
        Figure(name=f"p99, {_told(size.large)}", value=median(large.p99_ms), unit="ms"),
        Figure(
            name="share of a core the client used", value=max(small.client_busy + large.client_busy), unit="cores"
        ),
        Figure(name="processor time of merging what imports wrote, before", value=merged_s, unit="s"),
        Figure(name=f"memory of the server afterwards, {_told(size.large)}", value=memory / 2**20, unit="MB"),
    ]


def _round(size: Size, server: tuple[int, int], held: Stock, tally: Tally, number: int) -> None:
    load = single_call.Size(people=held.people, rounds=size.rounds, seconds=size.seconds)
    client = ["--requests", str(REQUESTS), "--first", str(number * REQUESTS)]
    single_call.one_round(server, tally, load, seconds=size.seconds if number else 1, client=client)


def _told(held: Stock) -> str:
    return f"{held.people:,} people and {held.events:,} events"


WORKLOAD = Workload(
    name="event_at_scale",
    expects=(
        "one live event costs at most 1.5 times as much behind a hundred times the people and events: it touches one "
        "person, found through an index, and the pages of the leaves it is about; nothing is searched; what is left is "
        "colder memory and deeper trees. The files of the import are merged before, which costs some seconds once"
    ),
    run=run,
)
