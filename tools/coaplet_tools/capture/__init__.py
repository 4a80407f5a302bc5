"""`make capture`: one log's whole life over coaps, as a file for Wireshark and packet by packet in words.

__main__.py            the command and its exit codes
session.py             the order of things: collector, tap, node; the session's secret; the file
one_log_probe.py       the node's part: connect, POST, read the answer, say goodbye. On MicroPython or CPython
tap.py                 a relay of datagrams between the two that keeps a copy of each, with its time
pcapng.py              the file: datagrams in IP and UDP, and the secret
explain.py coap.py     what each packet is

No raw socket and no privilege is needed: the node is told the tap's address as the collector's.
"""
