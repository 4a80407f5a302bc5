"""The commands: serve, device, nodes, query; device_commands.py, tail.py and sessions.py have the others.

Exit codes: 0 done, also when Ctrl-C ended it; 1 it could not be done, and a line says why; 2 wrong usage.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from coaplet_tools.collector import device_commands, devices, formats, query, sessions, tail
from coaplet_tools.collector.errors import CollectorError
from coaplet_tools.collector.limits import RATE
from coaplet_tools.collector.records import LEVELS
from coaplet_tools.collector.schema import open_to_read
from coaplet_tools.collector.serve import Collector, stop_event
from coaplet_tools.collector.show import JsonLines, Lines, Quiet, complain, silence
from coaplet_tools.collector.text import Paint, clean, colours_wanted, moment, table
from coaplet_tools.collector.watch import node_lines, read_nodes, watch

_LISTEN = "coaps://0.0.0.0:5684"


def main(argv: list[str] | None = None) -> int:
    """Run a command. Returns its exit code."""
    arguments = _parser().parse_args(argv)
    command: Callable[[argparse.Namespace], None] = arguments.command
    try:
        command(arguments)
        sys.stdout.flush()
    except CollectorError as error:
        complain("coaplet-collector", error)
        return 1
    except UnicodeEncodeError as error:  # an argument that is no UTF-8; or a terminal that cannot show a record
        complain("coaplet-collector", error)
        return 1
    except BrokenPipeError:  # `coaplet-collector query | head`
        silence()
    except KeyboardInterrupt:
        pass
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "coaplet-collector", description="Receives records of sensor nodes over CoAP and keeps them in SQLite."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    database = argparse.ArgumentParser(add_help=False)
    database.add_argument("--db", type=Path, default=Path("collector.db"), metavar="PATH", help="default: %(default)s")

    serve = commands.add_parser("serve", parents=[database], help="receive and store, until Ctrl-C")
    serve.add_argument(
        "--listen", action="append", metavar="URI", help=f"where to listen, default {_LISTEN}; may be repeated"
    )
    serve.add_argument(
        "--rate",
        type=_rate,
        default=RATE,
        metavar="N",
        help="requests a second of a device, default %(default)s; 0: any",
    )
    how = serve.add_mutually_exclusive_group()
    how.add_argument("--quiet", action="store_true", help="show troubles only")
    how.add_argument("--json", action="store_true", help="a JSON object a line for each event")
    how.add_argument("--watch", action="store_true", help="show the table of nodes instead of each record")
    serve.set_defaults(command=_serve)

    device = commands.add_parser("device", help="keep the keys of devices that come over coaps")
    actions = device.add_subparsers(required=True, metavar="ACTION")
    adding = actions.add_parser("add", parents=[database], help="make a key for a device, and print it")
    adding.add_argument("NAME", help="the identity that the device gives, psk_identity of its configuration")
    adding.add_argument("--replace", action="store_true", help="another key in place of the one that it has")
    adding.add_argument("--json", action="store_true", help="as JSON")
    adding.set_defaults(command=_device_add)
    listing = actions.add_parser("list", parents=[database], help="show who has a key; no key is shown")
    listing.add_argument("--json", action="store_true", help="as JSON")
    listing.set_defaults(command=_device_list)
    removing = actions.add_parser("remove", parents=[database], help="take a device's key away, and end its session")
    removing.add_argument("NAME")
    removing.set_defaults(command=_device_remove)

    device_commands.add(commands, database)

    nodes = commands.add_parser("nodes", parents=[database], help="show the nodes and their latest values")
    how = nodes.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="as JSON")
    how.add_argument("--watch", action="store_true", help="draw it anew each second, until Ctrl-C")
    nodes.set_defaults(command=_nodes)

    rows = commands.add_parser("query", parents=[database], help="print stored records")
    rows.add_argument("--node", metavar="NAME", help="of this node")
    rows.add_argument("--kind", choices=("log", "reading"))
    rows.add_argument("--path", metavar="PATH", help="readings of this path, such as temperature")
    rows.add_argument("--level", choices=LEVELS, help="logs of this level and those above it")
    rows.add_argument("--since", metavar="WHEN", help="received since: 10m (s m h d w) or 2025-01-31T12:00")
    rows.add_argument("--limit", type=_count, metavar="N", help="the last N only")
    rows.add_argument("--format", choices=("table", "json", "csv"), default="table")
    rows.add_argument("--json", action="store_const", const="json", dest="format", help="the same as --format json")
    rows.set_defaults(command=_query)

    tail.add_to(commands, database)
    sessions.add_to(commands, database)
    return parser


def _serve(arguments: argparse.Namespace) -> None:
    asyncio.run(_serve_until_stopped(arguments))


async def _serve_until_stopped(arguments: argparse.Namespace) -> None:
    stop = stop_event()
    paint = Paint(colours_wanted())
    if arguments.json:
        display = JsonLines()
    else:
        # Lines would run into the table that --watch draws.
        display = Quiet(paint) if arguments.quiet or arguments.watch else Lines(paint)
    async with Collector(arguments.listen or [_LISTEN], arguments.db, display, arguments.rate) as collector:
        display.started(collector.uris, arguments.db, None if collector.keys is None else len(collector.keys))
        if arguments.watch:
            title = f"listening on {' '.join(collector.uris)}; Ctrl-C stops"
            await watch(arguments.db, title, stop, paint)
        await stop.wait()
    display.stopped(collector.counts)


def _device_add(arguments: argparse.Namespace) -> None:
    key = devices.add(arguments.db, arguments.NAME, replace=arguments.replace).hex()
    if arguments.json:
        print(json.dumps({"identity": arguments.NAME, "key": key}))
        return
    print(f"identity  {arguments.NAME}\nkey       {key}\n")
    print('For the node\'s config.json, beside "collector": "coaps://HOST":\n')
    print(f'  "psk_identity": {json.dumps(arguments.NAME)},\n  "psk_key": "{key}"')


def _device_list(arguments: argparse.Namespace) -> None:
    found = devices.devices(arguments.db)
    if arguments.json:
        print(json.dumps([{"identity": identity, "added": added} for identity, added in found]))
        return
    rows = [(clean(identity), moment(added)) for identity, added in found]
    print("\n".join(table(("identity", "key made"), rows, right=(), paint=Paint(colours_wanted()))[0]))


def _device_remove(arguments: argparse.Namespace) -> None:
    devices.remove(arguments.db, arguments.NAME)
    print(f"{arguments.NAME} has no key any more; a session that it has ends within a second")


def _nodes(arguments: argparse.Namespace) -> None:
    paint = Paint(colours_wanted())
    if arguments.watch:
        asyncio.run(_watch(arguments.db, paint))
        return
    nodes = read_nodes(arguments.db)
    lines = [json.dumps(nodes)] if arguments.json else node_lines(nodes, paint)
    print("\n".join(lines))


async def _watch(database: Path, paint: Paint) -> None:
    await watch(database, f"{database}; Ctrl-C stops", stop_event(), paint)


def _query(arguments: argparse.Namespace) -> None:
    since = None if arguments.since is None else query.since(arguments.since, time.time())
    wanted = query.Filter(arguments.node, arguments.kind, arguments.path, arguments.level, since, arguments.limit)
    with closing(open_to_read(arguments.db)) as connection, closing(query.rows(connection, wanted)) as rows:
        formats.write(rows, arguments.format, sys.stdout, Paint(colours_wanted()))


def _rate(text: str) -> int:
    if not text.isdecimal() or int(text) > 1_000_000:
        raise argparse.ArgumentTypeError("a whole number, 0 or more")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**63:
        raise argparse.ArgumentTypeError("a whole number, 1 or more")
    return int(text)
