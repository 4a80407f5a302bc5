"""Run tests of one module, on CPython or MicroPython alike: run.py PATHS MODULE TEST...

PATHS go in front of sys.path, with colons between. What a test prints comes first, a traceback included, then its
one line: "PASS name", "FAIL name" or "SKIP name: reason". An `async def` test is run to its end by asyncio.
"""

import gc
import sys

for path in reversed(sys.argv[1].split(":")):
    sys.path.insert(0, path)

from harness import Skip

MICROPYTHON = sys.implementation.name == "micropython"


def print_traceback(error):
    if MICROPYTHON:
        sys.print_exception(error)
    else:
        import traceback

        traceback.print_exception(error, file=sys.stdout)


def unlock_heap():
    """Undo each heap_lock() that a failed test left behind; lock once more to learn how many there are."""
    if MICROPYTHON:
        import micropython

        micropython.heap_lock()
        for _ in range(micropython.heap_unlock() or 0):
            micropython.heap_unlock()


def call(function):
    coroutine = function()
    if coroutine is not None:
        import asyncio

        if MICROPYTHON:
            asyncio.new_event_loop()  # forget the tasks of the test before
        asyncio.run(coroutine)


def verdict(name, function):
    gc.collect()
    try:
        function()
        return "PASS " + name
    except Skip as skip:
        unlock_heap()
        return "SKIP " + name + ": " + " ".join(str(skip).split())
    except Exception as error:
        unlock_heap()
        print_traceback(error)
        return "FAIL " + name


def main(module_name, names):
    try:
        module = __import__(module_name)
    except Skip as skip:
        for name in names:
            print("SKIP " + name + ": " + str(skip))
        return
    for name in names:
        print(verdict(name, lambda name=name: call(getattr(module, name))))


main(sys.argv[2], sys.argv[3:])
