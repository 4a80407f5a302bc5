"""A node and a server that lose 30 % of what they send, in virtual time: a large payload arrives whole, each way, and
an observation ends with the final state.

Datagrams are duplicated and overtake each other as well. Where whole blocks are lost, the client sends them anew; what
the server has taken already it takes once. FUZZ_SEED sets the seed.
"""

from binascii import crc32

from coaplet.codes import CoapError, Timeout
from fuzzing import EMULATED, SEED
from harness import BOARD
from net import Network
from node_net import Brief, NetNode

SIZE = 4096 if BOARD else 16384 if EMULATED else 1 << 20
CHANGES = 5 if BOARD else 40
BLOCK = 1024
LOSSY = {"loss": 30, "duplication": 10, "delays": (1, 1500)}


def byte(at):
    """A byte of the payload: no two blocks are the same."""
    return (at * 7 + (at >> 10) * 13 + (at >> 18) * 5) & 255


def block_at(start, n):
    return bytes([byte(at) for at in range(start, start + n)])


class Sum:
    """A file that keeps nothing but the sum of what was written; and one that can be read anywhere."""

    def __init__(self, size=SIZE):
        self.size = size
        self.at = 0
        self.crc = 0
        self.closed = False

    def write(self, data):
        assert not self.closed
        self.crc = crc32(data, self.crc) & 0xFFFFFFFF
        self.at += len(data)
        return len(data)

    def close(self):
        self.closed = True

    def seek(self, at, whence=0):
        self.at = self.size if whence == 2 else at
        if not self.at:
            self.crc = 0
        return self.at

    def readinto(self, buf):
        n = max(0, min(len(buf), self.size - self.at))
        buf[:n] = block_at(self.at, n)
        self.at += n
        return n


def whole_sum():
    crc = 0
    for start in range(0, SIZE, BLOCK):
        crc = crc32(block_at(start, BLOCK), crc)
    return crc & 0xFFFFFFFF


class Ends:
    """A client and a server on a lossy network; .files are what the server opened for uploads."""

    def __init__(self, seed, **kwargs):
        kwargs = kwargs or LOSSY
        self.network = Network(seed=seed, **kwargs)
        self.network.log = Brief()
        self.client = NetNode("c", self.network)
        self.server = NetNode("s", self.network)
        self.files = []
        self.state = 0
        server = self.server

        def new_file(request):
            self.files.append(Sum())
            return self.files[-1]

        @server.resource("file", methods="GET PUT", body=new_file)
        def file(request, response):
            if request.method == 1:
                response.stream(Sum(), 42)
            else:
                request.body.close()

        @server.resource("state", observe=4)
        def state(request, response):
            response.text("%d" % self.state)

    def steps(self):
        """So many things may happen for each block: five sendings each way, some twice, and their timers."""
        return 40 * (SIZE // BLOCK) + 4000

    def run(self, begin):
        """Run a call to its end; after a Timeout, which each block may end in, begun anew by begin(bytes so far)."""
        tries = 20
        while True:
            task = self.client.start(begin())
            self.network.run(lambda: task.done, self.steps())
            if not isinstance(task.error, Timeout):
                return task.get()
            tries -= 1
            assert tries, "no end in sight"


def test_a_large_payload_arrives_whole_at_the_client():
    ends = Ends(SEED)
    sink = Sum()
    got = [0]

    def progress(n, of, out):
        got[0] = n

    def begin():
        assert got[0] % BLOCK == 0 and sink.at == got[0]
        return ends.client.to("s").get("file", into=sink, block=BLOCK, start=got[0] // BLOCK, progress=progress)

    ends.run(begin)
    assert sink.at == SIZE and sink.crc == whole_sum()
    assert ends.client.counters.retransmissions > SIZE // BLOCK // 4


def test_a_large_payload_arrives_whole_at_the_server():
    ends = Ends(SEED + 1)
    reply = ends.run(lambda: ends.client.to("s").put("file", Sum()))
    assert reply.code == 68
    assert ends.files[-1].at == SIZE and ends.files[-1].crc == whole_sum()
    assert all([f.closed for f in ends.files])
    assert ends.client.counters.retransmissions > SIZE // BLOCK // 4


def observe(seed, **kwargs):
    """Observe a state that changes at random times; returns (the last that was seen, how many were seen)."""
    ends = Ends(seed, **kwargs)
    network = ends.network
    seen = []

    async def watch():
        observation = ends.client.to("s").observe("state")
        while True:
            try:
                reply = await observation.next()
            except Timeout:
                observation = ends.client.to("s").observe("state")  # the first one found nobody
                continue
            except CoapError as error:
                seen.append(error)
                return
            seen.append(int(reply.payload))

    ends.client.start(watch())
    for i in range(1, CHANGES + 1):
        network.run_for(100 + network.random.below(8000))
        ends.state = i
        ends.server.changed("state")
    network.run_for(1200000, 20000)
    assert ends.server.server.observers.count() <= 8
    return seen


def test_an_observation_ends_with_the_final_state():
    for i in range(1 if BOARD else 4):
        seen = observe(SEED + 10 + i)
        assert seen[-1] == CHANGES, (i, seen)
        assert seen == sorted(seen), (i, seen)  # RFC 7641 3.4: none that is older than one before
        assert len(seen) > CHANGES // 4, (i, seen)


def test_without_loss_there_is_one_message_each_way_for_a_block():
    # what the tests above are to be compared with
    ends = Ends(SEED, delays=(1, 1))
    sink = Sum()
    ends.run(lambda: ends.client.to("s").get("file", into=sink))
    assert sink.at == SIZE and sink.crc == whole_sum()
    assert ends.network.carried == 2 * SIZE // BLOCK
    ends.run(lambda: ends.client.to("s").put("file", Sum()))
    assert ends.network.carried == 4 * SIZE // BLOCK and ends.files[0].crc == whole_sum()
    assert ends.client.counters.retransmissions == 0
