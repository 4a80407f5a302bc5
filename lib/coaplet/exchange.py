# One message of ours that waits for something, or one request that an async handler works on.
#
# RFC 7252 4.2 asks for a timeout and a retransmission counter a Confirmable message. An Exchange is opaque to whoever
# holds one: the endpoint owns its fields, but `waiter` (the driver's) and `message` once its event was polled.

FREE = 0
OPEN = 1  # handed out by open(), being written
SENT = 2  # a request as CON that waits for its ACK
ANSWERING = 3  # a separate response, a CON that waits for its ACK
NON_SENT = 4  # a request as NON that waits for its response
WAITING = 5  # an acknowledged request that waits for its response
RUNNING = 6  # an async handler works on it, and its ACK is owed if it was a CON
ACKED = 7  # an async handler works on it, and its empty ACK was sent
ONCE = 8  # to be sent once, then free
TIMED_OUT = 9  # an event that waits to be polled
WAS_RESET = 10
ENDED = 11  # its event was polled: the owner's to release


class Exchange:
    """out: an async slot's own buffer; None where one comes from the endpoint's pool when it is needed."""

    def __init__(self, out=None):
        self.state = FREE
        self.due = False  # to be transmitted
        self.out = out
        self.peer = None
        self.transport = None
        self.message = None  # the request that a handler works on; of a request of ours what it came to
        self.mid = 0
        self.token = bytearray(8)
        self.retries = 0
        self.timeout_ms = 0
        self.deadline = 0  # the next thing to do
        self.first = 0  # when it was first sent
        self.expires = 0  # when there is no point any more
        self.waiter = None
