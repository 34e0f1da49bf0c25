"""What an adapter adds to a request: see README.md beside it."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from client import load
from servers import SERVERS, Running, Server, running

WARM_SECONDS = 0.5


@dataclass(frozen=True)
class Cell:
    """One server, so many requests in flight, one round. Milliseconds."""

    p50: float
    p99: float
    per_second: float
    cpu: float


async def measure(one: Running, in_flight: int, seconds: float) -> Cell:
    before = one.cpu_seconds()
    seen = await load(one.port, in_flight, seconds)
    cpu = (one.cpu_seconds() - before) / len(seen.latencies)
    return Cell(seen.percentile(0.5) * 1e3, seen.percentile(0.99) * 1e3, seen.per_second, cpu * 1e3)


def medians(cells: list[Cell]) -> Cell:
    return Cell(*(median(getattr(cell, name) for cell in cells) for name in ("p50", "p99", "per_second", "cpu")))


def table(servers: list[Server], cells: dict[str, Cell]) -> list[str]:
    head = "| server | p50 ms | added | p99 ms | added | requests/s | ratio | CPU ms a request |"
    lines = [head, "|---|---:|---:|---:|---:|---:|---:|---:|"]
    for server in servers:
        cell, base = cells[server.name], cells.get(server.base)
        p50, p99, ratio = "", "", ""
        if base is not None:
            p50, p99 = f"{cell.p50 - base.p50:+.2f}", f"{cell.p99 - base.p99:+.2f}"
            ratio = f"{cell.per_second / base.per_second:.2f}"
        numbers = f"{cell.p50:.2f} | {p50} | {cell.p99:.2f} | {p99} | {cell.per_second:.0f} | {ratio} | {cell.cpu:.2f}"
        lines.append(f"| {server.name} | {numbers} |")
    return lines


def machine() -> str:
    one, five, _ = os.getloadavg()
    return f"{platform.machine()}, {os.cpu_count()} cores, {platform.release()}; load {one:.1f}, {five:.1f}"


async def rounds(all_of_them: list[Running], options: argparse.Namespace) -> dict[int, dict[str, Cell]]:
    seen: dict[int, dict[str, list[Cell]]] = defaultdict(lambda: defaultdict(list))
    for one in all_of_them:
        await load(one.port, max(options.in_flight), WARM_SECONDS)
    for number in range(options.rounds):
        for in_flight in options.in_flight:
            # Each round begins with another server, so that none is always the first.
            turn = number % len(all_of_them)
            for one in all_of_them[turn:] + all_of_them[:turn]:
                seen[in_flight][one.server.name].append(await measure(one, in_flight, options.seconds))
    return {in_flight: {name: medians(cells) for name, cells in by_name.items()} for in_flight, by_name in seen.items()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=lambda text: [int(one) for one in text.split(",")], default=[1, 32])
    parser.add_argument("--server", action="append", default=[], metavar="NAME=BASE:COMMAND")
    parser.add_argument("--only", action="append", default=[], metavar="NAME")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    servers = [*SERVERS, *(Server.read(text) for text in options.server)]
    if unknown := set(options.only) - {server.name for server in servers}:
        raise SystemExit(f"--only: no server {', '.join(sorted(unknown))}")
    servers = [server for server in servers if not options.only or server.name in options.only]
    print(f"{machine()}; {options.rounds} rounds of {options.seconds} s, medians; one worker each", flush=True)
    with tempfile.TemporaryDirectory() as folder, running(servers, Path(folder)) as all_of_them:
        cells = asyncio.run(rounds(all_of_them, options))
    for in_flight, by_name in cells.items():
        print(f"\n#### {in_flight} in flight\n", *table(servers, by_name), sep="\n")
    print(f"\nafterwards: {machine()}")


if __name__ == "__main__":
    main()
