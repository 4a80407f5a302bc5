"""`make run`: a sensor node and a collector, started together, and what happens shown as it happens.

__main__.py    the command and its exit codes
session.py     the order of things: collector, node, read back, wait, stop, summary
child.py       the node's process: its configuration, its lines, its end;   leash.py  no orphan, ever
readback.py    reads the node's resources over CoAP, as a client would, and measures the round trips
screen.py      one stream of lines from four sources; the summary
"""
