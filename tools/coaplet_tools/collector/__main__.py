"""`coaplet-collector`, and the same as `python -m coaplet_tools.collector`."""

import sys

from coaplet_tools.collector.cli import main

if __name__ == "__main__":
    sys.exit(main())
