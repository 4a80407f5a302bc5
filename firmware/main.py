"""Start the sensor node on this board.

On a board this file runs at boot. On the unix port, from the repository:

    MICROPYPATH=lib:firmware:boards/UNIX micropython firmware/main.py [STATE_DIR]

STATE_DIR holds config.json and the boot counter; without it, the board's own storage. Ctrl-C stops
the node. Whatever else ends it ends in board.reset(): a node in the field has nobody to ask.
Being killed is safe at any time: state is replaced by renaming, never written over.
"""

import sys

# MICROPYPATH replaces the whole path, and with it the place of MicroPython's own asyncio.
if ".frozen" not in sys.path:
    sys.path.append(".frozen")

import asyncio

import board
from node.app import App
from node.log import console


def main(arguments):
    """Run the node until Ctrl-C. arguments: [] or [STATE_DIR]."""
    app = App(board, arguments[0] if arguments else board.storage)
    try:
        asyncio.run(app.run())
        console("node: starts again")
        board.reset()
    except KeyboardInterrupt:
        console("node: stopped")
    except OSError as e:
        # Most often the port is taken or the network did not come up; a traceback would not say more.
        console("node: cannot run: %s" % e)
        board.reset()
    except Exception as e:
        # A fault in this firmware: the traceback is for its developer.
        print_exception = getattr(sys, "print_exception", None)
        if print_exception is None:
            raise
        print_exception(e)
        board.reset()


if __name__ == "__main__":
    main(sys.argv[1:])
