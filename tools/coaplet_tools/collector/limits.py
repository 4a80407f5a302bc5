"""How much the collector takes, and keeps, of whoever sends to it: all such numbers, in one place.

Those that Golioth has are Golioth's: 20 requests a second a device, 1,024 bytes of payload a message.
"""

MESSAGE = 1024  # bytes of payload in one message; of a log, in however many
BODY = 65536  # bytes of what is sent to a stream in blocks (RFC 7959)
UPLOADS = 64  # such bodies at a time, over all devices: 4 MiB
BATCH = 500  # readings in one request
DEPTH = 32  # of JSON and CBOR: who reads a record later has less of a stack left, perhaps, than whoever stored it
NAME = 128  # characters of a node's name
PATH = 255  # bytes of a reading's path in a batch, as in one Uri-Path option

RATE = 20  # requests a second of a device, and as many at once
RATED = 10_000  # devices whose requests are counted: those heard last

SESSIONS_OF_A_DEVICE = 50  # that have ended, and are remembered
SESSIONS = 20_000  # of all devices
ADDRESSES = 16  # of a session: those it had last
