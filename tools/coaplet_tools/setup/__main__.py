"""The door of the setup: refuses an old Python in one line, in a syntax that an old Python can read."""

import sys

if sys.version_info < (3, 11):  # noqa: UP036
    have = "%d.%d" % sys.version_info[:2]  # noqa: UP031
    sys.exit("setup: coaplet's tools need Python 3.11 or newer, this is " + have + ": try make PYTHON=python3.12")

from coaplet_tools.setup.cli import main

sys.exit(main(sys.argv[1:]))
