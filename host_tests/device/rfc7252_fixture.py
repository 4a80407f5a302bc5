"""What the tests of RFC 7252's rules share: a client, a server that answers in each way, and both kinds of endpoint."""

import net
from coaplet.endpoint import Endpoint
from coaplet.many import ManyEndpoint
from helpers import ACK, CON, message, path
from net import Host, Network
from site_fixture import Site

GET, POST, PUT, DELETE, FETCH = 1, 2, 3, 4, 5


def on_each_endpoint(test):
    """Run a test with the endpoint that searches its few slots, and with the one that looks them up."""

    def run():
        try:
            for kind in (Endpoint, ManyEndpoint):
                net.Endpoint = kind
                test()
        finally:
            net.Endpoint = Endpoint

    return run


def client(**limits):
    network = Network()
    return network, Host("c", network, **limits)


def asked(confirmable=True):
    """(network, client, mid, token) of a GET to "s" that waits for its answer."""
    network, c = client()
    ex = c.request("s", GET, ("t",), confirmable=confirmable)
    return network, c, ex.mid, bytes(ex.token)


def serving(**limits):
    """A site with a resource for each way to answer: "quick", "long" (of a POST: a separate response) and "slow"."""
    s = Site(**limits)

    def quick(request, response):
        s.calls.append("quick")
        response.text("1")

    def long(request, response):
        s.calls.append("long")
        response.text("x" * 200)

    async def slow(request, response):
        s.calls.append("slow")
        response.text("1")

    s.serve("quick", quick, "GET POST")
    s.serve("long", long, "POST")
    s.serve("slow", slow, "GET POST")
    return s


def separate(s, where, code, mid, token=b"tk"):
    """Ask for an answer that comes as a separate response; returns the CON that carries it."""
    sent = s.receive(message(CON, code, mid, token, path(where)))
    if where == "slow":
        s.network.run_for(300)
        sent = [(s.network.log[-1][3], None)]
        s.finish_task()
        sent.append((s.network.log[-1][3], None))
    (ack, _), (con, _) = sent
    assert ack == message(ACK, 0, mid)
    return con


def tagged(tags):
    """A site with a resource "a" whose ETag is tags[0], None where it does not exist."""
    s = Site()

    def handler(request, response):
        s.calls.append(request.method)
        response.text("x")

    s.serve("a", handler, "GET PUT DELETE", etag=lambda request: tags[0])
    return s
