"""python -m coaplet_tools.soak [mutate|fuzz]: both without a name. Exit status 1: one of them failed."""

import argparse
import os
import sys

from coaplet_tools.soak import fuzz, mutate


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m coaplet_tools.soak", description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at a time")
    parts = parser.add_subparsers(dest="part", metavar="PART")
    mutation = parts.add_parser("mutate", help="mutation testing of files of lib/coaplet")
    mutation.add_argument("files", nargs="*", metavar="FILE", help=f"such as transmission; default: {mutate.FILES}")
    fuzzing = parts.add_parser("fuzz", help="random and mutated datagrams")
    fuzzing.add_argument("--datagrams", type=int, default=fuzz.DATAGRAMS)
    fuzzing.add_argument("--seed", type=int, default=1, help="the first process's; the next ones' follow")
    parser.set_defaults(files=[], datagrams=fuzz.DATAGRAMS, seed=1)
    return parser.parse_args()


def main() -> int:
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets in the same order in every run
        os.environ["PYTHONHASHSEED"] = "0"
        os.execv(sys.executable, [sys.executable, "-m", "coaplet_tools.soak", *sys.argv[1:]])
    arguments = _arguments()
    failed = False
    if arguments.part != "fuzz":
        failed |= bool(mutate.main(arguments.files or mutate.FILES, arguments.jobs))
    if arguments.part != "mutate":
        failed |= bool(fuzz.main(arguments.datagrams, arguments.seed, arguments.jobs))
    return failed


if __name__ == "__main__":
    sys.exit(main())
