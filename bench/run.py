"""Run named workloads: `make bench`, `make bench-full`, or `python -m bench.run --quick single_call`.

Quick is for seeing that nothing fell over: small data, a minute or two. Full has the sizes of the budgets.
"""

import argparse
import importlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.workload import Figure, Place, Scale, Workload

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".bench"

# Modules of this package, in the order in which they run.
# Those that make large folders stand before those that can use them.
WORKLOADS: tuple[str, ...] = (
    "single_call",
    "batch_call",
    "backfill_people",
    "backfill_events",
    "backfill_onto",
    "event_at_scale",
    "restart",
    "memory",
    "pending_expiries",
    "segment_build",
    "segment_memory",
    "activity_page",
    "segment_entry",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 when every workload ran, whatever it measured; 1 when one failed."""
    options = _options(arguments)
    scale: Scale = "full" if options.full else "quick"
    results: list[dict[str, object]] = []
    data = FOLDER / "data"
    data.mkdir(parents=True, exist_ok=True)
    ours = Path(tempfile.mkdtemp(prefix="run-", dir=FOLDER))
    try:
        for name in options.names or WORKLOADS:
            place = Place(work=ours / name, cache=ours / "cache", data=data)
            results.append(_run(importlib.import_module(f"bench.{name}").WORKLOAD, scale, place))
    finally:
        shutil.rmtree(ours, ignore_errors=True)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": _machine(), "scale": scale, "workloads": results}, indent=2) + "\n"
        )
    return 1 if any("error" in result for result in results) else 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="Run named workloads.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of: {', '.join(WORKLOADS)}; none means all")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--quick", action="store_true", help="small data (the default)")
    scale.add_argument("--full", action="store_true", help="the sizes of the budgets")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in WORKLOADS]
    if unknown:
        parser.error(f"no workload is called {', '.join(unknown)}; there are: {', '.join(WORKLOADS)}")
    return options


def _run(workload: Workload, scale: Scale, place: Place) -> dict[str, object]:
    print(f"\n{workload.name} ({scale})\n  expected: {workload.expects}", flush=True)
    place.work.mkdir()
    place.cache.mkdir(exist_ok=True)
    started = time.perf_counter()
    try:
        figures = workload.run(scale, place)
    except Exception as error:
        print(f"  failed: {error!r}", flush=True)
        return {"name": workload.name, "error": repr(error)}
    finally:
        shutil.rmtree(place.work, ignore_errors=True)
    seconds = time.perf_counter() - started
    for figure in figures:
        print(f"  {_line(figure)}", flush=True)
    print(f"  (took {seconds:.0f} s)", flush=True)
    return {
        "name": workload.name,
        "expects": workload.expects,
        "seconds": round(seconds, 1),
        "figures": [_plain(figure) for figure in figures],
    }


def _line(figure: Figure) -> str:
    unit = "x" if figure.unit == "x" else f" {figure.unit}"
    text = (
        f"{figure.name}: {figure.value:,.4g}{unit}"
        if figure.value < 1e4
        else f"{figure.name}: {figure.value:,.0f}{unit}"
    )
    if figure.met is None:
        return text
    bounds = [f"at most {figure.most:,g}" if figure.most is not None else ""]
    bounds.append(f"at least {figure.least:,g}" if figure.least is not None else "")
    return f"{text} (budget: {' and '.join(bound for bound in bounds if bound)}: {'met' if figure.met else 'MISSED'})"


def _plain(figure: Figure) -> dict[str, object]:
    return {
        "name": figure.name,
        "value": figure.value,
        "unit": figure.unit,
        "most": figure.most,
        "least": figure.least,
        "met": figure.met,
    }


def _machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


if __name__ == "__main__":
    sys.exit(main())
