"""The blocking twin: calls that return when their answer is there."""

from coaplet import CoapError, Loop, Timeout
from coaplet.sync import connect
from helpers import free_uri, raises


class Served:
    """A server in the same thread: it runs whenever the client's loop has nothing to do."""

    def __init__(self):
        self.uri = free_uri()
        self.server = server = Loop(self.uri)

        @server.resource("t", methods="GET POST PUT DELETE")
        def t(request, response):
            if request.payload == b"no":
                raise CoapError(128, "as you say")
            response.text("%d %s" % (request.method, request.payload.decode()))

        server.open()

    def connect(self, path="", **limits):
        remote = connect(self.uri + path, **limits)
        loop = remote._loop
        poll = loop.poll

        def both(timeout_ms=-1):
            self.server.poll(0)
            poll(5)
            self.server.poll(0)
            return True

        loop.poll = both
        return remote


def test_each_method_returns_its_reply():
    s = Served()
    with s.connect() as remote:
        assert remote.get("t").text() == "1 "
        assert remote.post("t", "x").text() == "2 x"
        assert remote.put("/t", payload=b"y").text() == "3 y"
        assert remote.delete("t").text() == "4 "
        assert remote.request(1, "t", confirmable=False).text() == "1 "
        assert remote.ping() >= 0
    s.server.close()


def test_a_path_of_the_connection_is_put_before_each_request():
    s = Served()
    remote = s.connect("/t")
    assert remote.get().text() == "1 "
    remote.close()
    s.server.close()


def test_errors_are_those_of_a_remote():
    s = Served()
    remote = s.connect()
    assert raises(CoapError, remote.get, "nothing").code == 132
    assert str(raises(CoapError, remote.post, "t", "no")) == "4.00 Bad Request: as you say"
    raises(ValueError, remote.request, 0)
    remote.close()
    s.server.close()
    assert "does not run" in str(raises(RuntimeError, remote.get, "t"))


def test_no_answer_is_a_timeout():
    with connect(free_uri(), ack_timeout_ms=5, max_retransmit=1) as remote:
        raises(Timeout, remote.get, "t")
        raises(Timeout, remote.ping, timeout_ms=20)


def test_what_cannot_be_connected_to_leaves_no_socket_open():
    raises(ValueError, connect, "http://127.0.0.1")


def test_it_names_its_peer():
    uri = free_uri()
    with connect(uri) as remote:
        assert repr(remote) == "<Remote %s>" % uri[7:]
