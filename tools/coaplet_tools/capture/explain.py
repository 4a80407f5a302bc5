"""What each packet of a DTLS session is: its records, what they say once they are opened, and what they are for.

Records are opened with the session's own secret, as Wireshark does: RFC 5246 6.3 makes the keys of it and of the two
randoms, which the hellos have in the clear.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from coaplet.dtls.hello import Hello
from coaplet.dtls.kdf import prf
from coaplet.dtls.layer import alert_text
from coaplet.dtls.record import Keys, Scratch
from coaplet_tools.capture import coap
from coaplet_tools.capture.tap import Datagram

_CHANGE, _ALERT, _HANDSHAKE, _DATA, _CID = 20, 21, 22, 23, 25
_TYPES = {_CHANGE: "change_cipher_spec", _ALERT: "alert", _HANDSHAKE: "handshake", _DATA: "application_data"}
_SUITES = {
    0xC0A8: "TLS_PSK_WITH_AES_128_CCM_8",
    0xC0A4: "TLS_PSK_WITH_AES_128_CCM",
    0x00A8: "TLS_PSK_WITH_AES_128_GCM_SHA256",
}
_CLIENT_HELLO, _SERVER_HELLO, _VERIFY, _HELLO_DONE, _EXCHANGE, _FINISHED = 1, 2, 3, 14, 16, 20
_MOST = 16384


@dataclass(frozen=True)
class Packet:
    """title: its messages, "ServerHello, ServerHelloDone"; text: a paragraph; sealed: how many of its records had to be
    opened, which all were."""

    title: str
    text: str
    sealed: int


class Unreadable(ValueError):
    """A packet that is no DTLS, or is damaged."""


def client_random(datagrams: Sequence[Datagram]) -> bytes:
    """Return the random of the first ClientHello. Raises Unreadable."""
    for datagram in datagrams:
        if datagram.from_client and len(datagram.data) > 59 and datagram.data[0] == _HANDSHAKE and not datagram.data[4]:
            return datagram.data[27:59]
    raise Unreadable("no ClientHello came through")


def explain(datagrams: Sequence[Datagram], master: bytes) -> list[Packet]:
    """Explain each datagram of one session. master: its master secret. Raises Unreadable."""
    reader = _Reader(master)
    try:
        return [reader.packet(datagram) for datagram in datagrams]
    except (IndexError, ValueError) as error:
        raise Unreadable(f"a packet could not be read: {error}") from error


class _Reader:
    def __init__(self, master: bytes) -> None:
        self._master = master
        self._scratch = Scratch(_MOST)
        self._randoms = {True: b"", False: b""}
        self._cid = {True: b"", False: b""}  # of the records of client and server
        self._keys: dict[bool, Keys] = {}
        self._suite = 0

    def packet(self, datagram: Datagram) -> Packet:
        names: list[str] = []
        texts: list[str] = []
        sealed = 0
        for kind, epoch, number, head, body in self._records(datagram):
            real, content, record = kind, body, ""
            if epoch:
                sealed += 1
                real, content = self._open(datagram, head + body)
                record = f", {len(content)} inside" + (
                    f", with Connection ID {head[11:-2].hex()}" if kind == _CID else ""
                )
            where = f"{_TYPES.get(real, f'type {real}')}, epoch {epoch}, number {number}"
            name, text = self._content(real, content, datagram.from_client)
            names.append(name)
            texts.append(f"{name} (record: {where}, {len(head)} + {len(body)} bytes{record}): {text}")
        return Packet(", ".join(names), " ".join(texts), sealed)

    def _records(self, datagram: Datagram) -> Iterator[tuple[int, int, int, bytes, bytes]]:
        data, pos = datagram.data, 0
        while pos < len(data):
            at = pos + 13 + (len(self._cid[datagram.from_client]) if data[pos] == _CID else 0)
            end = at + int.from_bytes(data[at - 2 : at])
            if end > len(data) or data[pos + 1] != 0xFE:
                raise Unreadable("it is no DTLS")
            number = int.from_bytes(data[pos + 5 : pos + 11])
            yield data[pos], int.from_bytes(data[pos + 3 : pos + 5]), number, data[pos:at], data[at:end]
            pos = end

    def _open(self, datagram: Datagram, record: bytes) -> tuple[int, bytes]:
        if not self._keys:
            block = prf(self._master, b"key expansion", self._randoms[False] + self._randoms[True], 40)
            for from_client in (True, False):
                self._keys[from_client] = Keys(self._suite, block, not from_client, b"", self._cid[from_client])
        found = self._keys[datagram.from_client].open(self._scratch, record, 0, len(record))
        if found < 0:
            raise Unreadable("a record does not open with the session's keys")
        return found & 0xFF, bytes(self._scratch.opened[: found >> 8])

    def _content(self, kind: int, content: bytes, from_client: bool) -> tuple[str, str]:
        if kind == _HANDSHAKE:
            return self._handshake(content, from_client)
        if kind == _CHANGE:
            return "ChangeCipherSpec", "what this side sends from here on is sealed with the new keys, in epoch 1."
        if kind == _ALERT:
            name = alert_text(content[1])
            if name == "close_notify":
                return (
                    "Alert close_notify",
                    f"the {_side(from_client)} says goodbye, and both forget the session's keys.",
                )
            return f"Alert {name}", "something is wrong, and this says what."
        text = coap.describe(content)
        if content[1] == 2:
            return "CoAP POST", f"{text}. The log itself. It goes out again after 2 to 3 s unless it is answered."
        answers = content[0] >> 4 & 3 == 2 and content[1]
        more = (
            " It acknowledges the POST and answers it in one; it is sent when the record is on the disk."
            if answers
            else ""
        )
        return "CoAP answer" if content[1] else "CoAP empty message", f"{text}.{more}"

    def _handshake(self, message: bytes, from_client: bool) -> tuple[str, str]:
        kind, body = message[0], message[12:]
        if len(body) != int.from_bytes(message[1:4]):
            return "Fragment", "a part of a handshake message that does not fit into one datagram."
        if kind == _CLIENT_HELLO:
            return "ClientHello", self._client_hello(Hello(body, True))
        if kind == _VERIFY:
            return "HelloVerifyRequest", (
                f"a cookie of {body[2]} bytes, made of the node's address and a secret of the collector's, which keeps "
                "nothing yet. Who forges an address never sees the cookie, and that address gets less than was sent in "
                "its name."
            )
        if kind == _SERVER_HELLO:
            return "ServerHello", self._server_hello(Hello(body, False))
        if kind == _HELLO_DONE:
            return "ServerHelloDone", "nothing else comes: no certificate, and no key, which both have already."
        if kind == _EXCHANGE:
            return "ClientKeyExchange", (
                f'the identity, "{body[2:].decode(errors="replace")}", in the clear: it says which key; the key itself '
                "is never sent. Both sides now make the session's secrets out of it and the two randoms."
            )
        if kind == _FINISHED:
            return "Finished", (
                f"{len(body)} bytes that only who has the key can make, over all of the handshake so far: it proves "
                f"the {_side(from_client)}, and that nobody changed a word."
            )
        return f"message {kind}", "a message that this text has no words for."

    def _client_hello(self, hello: Hello) -> str:
        self._randoms[True] = hello.random
        self._cid[False] = hello.cid or b""
        if hello.cookie:
            return "the same as before with the cookie in it: the address is the node's own, so the handshake begins."
        names = ", ".join(_SUITES[suite] for suite in hello.suites if suite in _SUITES)
        also = ", ".join(
            text
            for text, there in (("extended master secret", hello.ems), ("Connection ID", hello.cid is not None))
            if there
        )
        return f"the node begins. It offers {names}, {also}, and gives 32 random bytes. It has no cookie yet."

    def _server_hello(self, hello: Hello) -> str:
        self._randoms[False] = hello.random
        self._cid[True] = hello.cid or b""
        self._suite = hello.suites[0]
        parts = [f"the collector takes {_SUITES[self._suite]} and gives its 32 random bytes"]
        if hello.session_id:
            parts.append(f"a session id of {len(hello.session_id)} bytes, for a shorter handshake another time")
        if hello.cid:
            parts.append(
                f"and a Connection ID of {len(hello.cid)} bytes, {hello.cid.hex()}, which the node is to put into each "
                "record: by it the session is known even when the node's address has changed"
            )
        return ", ".join(parts) + "."


def _side(from_client: bool) -> str:
    return "node" if from_client else "collector"
