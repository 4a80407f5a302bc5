# The blocking twin of a Remote, for scripts and the REPL: each call returns when its answer is there.
#
#     from coaplet.sync import connect
#     server = connect("coap://host")
#     print(server.get("sensors/temperature").text())
#
# Nothing runs between the calls: who serves, too, or has more than one request to wait for takes Node or Loop.

from .poll import Loop


class Remote:
    """A peer to send requests to, from connect(). Its calls take and raise what those of client.Remote do."""

    def __init__(self, loop, remote):
        self._loop = loop
        self._remote = remote

    def __getattr__(self, name):
        """get, post, put, delete, request, ping: as coroutines of client.Remote, run to their ends."""
        call = getattr(self._remote, name)
        return lambda *args, **kwargs: self._loop.run(call(*args, **kwargs))

    def observe(self, path="", **kwargs):
        """Observe a resource: for reply in server.observe("config"): ... What Remote.observe() takes and raises."""
        observation = self._remote.observe(path, **kwargs)
        try:
            while True:
                yield self._loop.run(observation.next())
        finally:
            self._loop.run(observation.cancel())

    def close(self):
        """Close the socket."""
        self._loop.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __repr__(self):
        return repr(self._remote)


def connect(uri, psk=None, **limits):
    """Returns a Remote. uri, psk: see Node.connect(); limits: Endpoint's arguments. Raises ValueError, OSError."""
    loop = Loop(**limits)
    loop.open()
    try:
        return Remote(loop, loop.connect(uri, psk))
    except Exception:
        loop.close()
        raise
