"""Runs on CPython: what a request costs an endpoint of a host's size that has 10 peers, and 10,000. Prints JSON.

served: a GET taken in, dispatched, answered and fetched, while the memory of duplicates is full. sent: a GET of ours
written, sent and fetched, and its answer taken in, while a request to each peer is in flight. served_default: served to
10 peers with a board's limits, to compare with. No sockets, a virtual clock; each round has endpoints of its own; the
figures are microseconds of CPU time a request, a list of rounds.
"""

import gc
import json
import sys
import time

from coaplet import Loop

ROUNDS = int(sys.argv[1])
FEW = 10
MANY = int(sys.argv[2])
REQUESTS = 10000
# what a collector of that many nodes asks for
LIMITS = {"duplicates": 2 * MANY, "exchanges": MANY, "tx_slots": MANY}
ACK_CONTENT = b"\x68\x45"
ANSWER = b"\xc0\xff21.5"


class Transport:
    """What an endpoint knows of one: that it is another than the next."""


def peers(n):
    """Addresses as recvfrom() gives them, anew for each datagram."""
    return [(f"10.0.{i >> 8}.{i & 255}", 5683) for i in range(n)]


def requests(n, count, first=0):
    """`count` GETs from n peers in turn, each with a Message ID of its own: (datagram, peer)."""
    found = []
    while len(found) < count:
        mid = (first + len(found) // n).to_bytes(2, "big")
        found += [(b"\x44\x01" + mid + b"tokn\xb7sensors\x0btemperature", peer) for peer in peers(n)]
    return found


def serve(loop, transport, datagrams):
    endpoint = loop.endpoint
    handle_datagram, poll_event, poll_transmit = endpoint.handle_datagram, endpoint.poll_event, endpoint.poll_transmit
    handle = loop.server.handle
    sent = b""
    now = 1
    start = time.process_time()
    for data, peer in datagrams:
        handle_datagram(now, data, peer, transport)
        while poll_event():
            handle(now)
        while poll_transmit(transport):
            sent = endpoint.tx_buf
        now += 1
    took = time.process_time() - start
    assert sent[-4:] == b"21.5"
    assert endpoint.counters.duplicates == 0
    return took * 1e6 / len(datagrams)


def served_us(n, limits):
    loop = Loop(**limits)

    @loop.resource("sensors/temperature")
    def temperature(request, response):
        response.text("21.5")

    transport = Transport()
    full = 2 * MANY if limits else 100
    before = requests(n, full)
    timed = requests(n, REQUESTS, -(-full // n))
    gc.collect()
    gc.freeze()
    serve(loop, transport, before)
    return serve(loop, transport, timed)


def sent_us(n):
    loop = Loop(**LIMITS)
    endpoint = loop.endpoint
    transport = Transport()
    turns = [peers(n) for _ in range(REQUESTS // n)]
    answers = [peers(n) for _ in range(REQUESTS // n)]
    gc.collect()
    gc.freeze()
    count = 0
    now = 1
    start = time.process_time()
    for turn, answered in zip(turns, answers, strict=True):
        flying = []
        for peer in turn:
            ex = endpoint.open(now, peer, transport)
            count += 1
            ex.token[:] = count.to_bytes(8, "big")
            out = endpoint.begin(ex, 1)
            out.add(11, b"sensors", 0, 7)
            out.add(11, b"temperature", 0, 11)
            endpoint.send(now, ex)
            endpoint.poll_transmit(transport)
            flying.append((ex, ACK_CONTENT + endpoint.tx_buf[2:12] + ANSWER))
        now += 1
        for peer, (ex, answer) in zip(answered, flying, strict=True):
            endpoint.handle_datagram(now, answer, peer, transport)
            assert endpoint.poll_event() == 2 and endpoint.exchange is ex
            endpoint.release(ex)
    took = time.process_time() - start
    assert endpoint.counters.responses == count == len(turns) * n
    return took * 1e6 / count


def main():
    figures = {
        "served_few_us": [],
        "served_many_us": [],
        "served_default_us": [],
        "sent_few_us": [],
        "sent_many_us": [],
    }
    for _ in range(ROUNDS):
        figures["served_few_us"].append(served_us(FEW, LIMITS))
        figures["served_many_us"].append(served_us(MANY, LIMITS))
        figures["served_default_us"].append(served_us(FEW, {}))
        figures["sent_few_us"].append(sent_us(FEW))
        figures["sent_many_us"].append(sent_us(MANY))
    print(json.dumps(figures))


main()
