# The keys of our DTLS sessions in a key log file, which tshark takes, and what there is to be told of a session; for
# client.py and server.py. The library itself gives no key away: its handshake is wrapped here. Runs unchanged on
# CPython and MicroPython.


import os


def log_keys():
    """Add a line to the file COAPLET_KEYLOG for each handshake: CLIENT_RANDOM <client's random> <master secret>."""
    path = os.getenv("COAPLET_KEYLOG")
    if not path:
        return
    from coaplet.dtls.handshake import Handshake

    make_keys = Handshake._make_keys

    def make_and_log(self, now):
        with open(path, "a") as file:
            file.write("CLIENT_RANDOM %s %s\n" % (self.client_random.hex(), self.master.hex()))
        make_keys(self, now)

    Handshake._make_keys = make_and_log


def describe_session(layer, session):
    """What a session of a Dtls is, and what the layer has counted."""
    keys = session.keys
    found = {"suite": keys.suite, "cid_in": keys.cid_in.hex(), "cid_out": keys.cid_out.hex()}
    found["identity"] = session.identity.decode()
    found["address"] = layer.format(session)
    found["resumable"] = session.resumption is not None
    for name in "succeeded failed retransmissions malformed forged replayed unknown evicted".split():
        found[name] = getattr(layer, name)
    return found
