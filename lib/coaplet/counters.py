# What happened so far, as ints that only grow: an array inside, attributes for whoever reads them.
#
#   received      datagrams                             sent             datagrams
#   requests      that were handed up                   responses        that were handed up
#   retransmissions                                     duplicates       messages that had been seen before
#   ignored       too short, or another version         malformed        format errors
#   unexpected    ACK, RST or response to nothing of ours
#   oversized     datagrams larger than mtu             timeouts         messages of ours that got no answer
#   resets        messages of ours answered with RST    refused          async requests while no slot was free
#   not_kept      replies that a repeat will not get    waits            callers that waited for a slot or NSTART
#   overwritten   replies that no transport fetched     send_errors      datagrams that a transport did not take
#   faults        exceptions of ours or of a transport's, caught by the driver
#   probings      callers that PROBING_RATE held back    no_mids      responses lost since all Message IDs were in use
#   early         unsafe requests forgotten too early
#
# Behind them are five cells of the endpoint's state, for machine code:
#   [21] the event of the datagram taken in last
#   [22] whether the scratch waits for a transport; 2 where tx_buf and tx_peer are another's now
#   [23] what calls for care: 1 a peer is left alone, 2 there are async slots, 4 no deadline is set, 8 sent to a group
#   [24] whether tx_peer may be another than the peer heard last
#   [25] where the last piggybacked reply lay in its buffer

from array import array

from .port import MICROPYTHON

NAMES = (
    "received,sent,requests,responses,retransmissions,duplicates,ignored,malformed,unexpected,oversized,timeouts,"
    "resets,refused,not_kept,waits,overwritten,send_errors,faults,probings,no_mids,early"
)


class Counters:
    """Reads counts by name: counters.requests. counts: the array that those who count use."""

    def __init__(self):
        # with 32 bits for viper, which begin again at 0; CPython's would raise then, and so have 64
        self.counts = array("I" if MICROPYTHON else "Q", [0] * 26)

    def __getattr__(self, name):
        try:
            return self.counts[NAMES.split(",").index(name)]
        except ValueError:
            raise AttributeError(name)
