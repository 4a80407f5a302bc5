# One message of ours that waits for something, or one request that an async handler works on; and the counters.
#
# RFC 7252 4.2 asks for a timeout and a retransmission counter a Confirmable message. The endpoint owns every field but
# `waiter` (the driver's) and `result` (the client's); an owner of an Exchange passes it around and looks at nothing.

FREE = 0
OPEN = 1  # handed out by open(), being written
SENT = 2  # a CON that waits for its ACK
WAITING = 3  # a request that waits for its response
RUNNING = 4  # an async handler works on it
ONCE = 5  # to be sent once, then free
TIMED_OUT = 6  # an event that waits to be polled
WAS_RESET = 7
ANSWERED = 8  # its event was polled: the owner's to release


class Exchange:
    """own: the buffer of an async slot, which stays its own; else None, and `out` comes from the endpoint's pool."""

    def __init__(self, own=None):
        self.state = FREE
        self.due = False  # to be transmitted
        self.own = own
        self.out = own
        self.peer = None
        self.transport = None
        self.request = False  # a request of ours: a response is expected
        self.outstanding = False  # counts for NSTART (RFC 7252 4.7)
        self.con = False  # a CON of ours; of an async request: its ACK is still owed
        self.rx = None  # the request that an async handler works on
        self.mid = 0
        self.token = bytearray(8)
        self.retries = 0
        self.timeout_ms = 0
        self.deadline = 0  # the next thing to do
        self.first = 0  # when it was first sent
        self.expires = 0  # when there is no point any more
        self.waiter = None
        self.result = None


class Counters:
    """What happened so far. Each is an int that only grows."""

    def __init__(self):
        self.received = 0  # datagrams
        self.sent = 0
        self.requests = 0  # events handed up
        self.responses = 0
        self.retransmissions = 0
        self.duplicates = 0  # requests that had been seen before
        self.ignored = 0  # too short, or another version
        self.malformed = 0  # format errors
        self.unexpected = 0  # ACK, RST or response that fits nothing of ours
        self.oversized = 0  # datagrams larger than mtu
        self.timeouts = 0  # CONs and requests of ours that got no answer
        self.resets = 0  # of ours that were answered with RST
        self.refused = 0  # async requests while no async slot was free
        self.not_kept = 0  # replies to unsafe requests that a repeat will not get
        self.waits = 0  # callers that had to wait for a slot or for NSTART
        self.overwritten = 0  # replies that no transport fetched in time
        self.faults = 0  # the driver's: exceptions of ours or of a transport's
        self.send_errors = 0  # the driver's: datagrams that a socket did not take
