"""Runs on MicroPython: the least that any UDP server does, PORT. It sends each datagram back until it is ended."""

import select
import socket
import sys

served = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
served.bind(socket.getaddrinfo("127.0.0.1", int(sys.argv[1]), 0, socket.SOCK_DGRAM)[0][-1])
poller = select.poll()
poller.register(served, select.POLLIN)
while True:
    for ready in poller.ipoll(-1):
        found = ready[0].recvfrom(1153)  # as coaplet does: mtu and one
        ready[0].sendto(found[0], found[1])
