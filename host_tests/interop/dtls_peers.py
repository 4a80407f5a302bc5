"""DTLS programs that nobody here wrote, each started on a port of 127.0.0.1 and ended with the block it is used in.

What each does with PSK, found by running it (OpenSSL 3.0; libcoap 4.3.4 with OpenSSL 3.5 and with GnuTLS 3.8; Mbed TLS
3.6.6; python-mbedtls 2.10.1 with Mbed TLS 2.28.8; aiocoap 0.4.17 with DTLSSocket 0.2.3; node-coap-client 2.1.0 on
Node.js 24). ccm8, ccm and gcm are the names of SUITES, numbers those of alerts: 0 close_notify, 20 bad_record_mac,
40 handshake_failure, 80 internal_error, 115 unknown_psk_identity.

Servers         suites         cookie    EMS      resume by      hint      wrong     unknown   no common
                               (bytes)            id    ticket             key       identity  suite
s_server        all            20        yes      yes   yes      as asked  silence   taken(1)  40
coap-server     ccm gcm        32        yes      yes   yes      as asked  silence   taken(2)  40
 -gnutls        all            16        yes      no(3) no       as asked  silence   taken(2)  40
mbedtls-peer    all            32        if asked if asked both  none      20        115       40(4)
python-mbedtls  all            32        yes      no(3) no       none      20        115       40(4)
aiocoap         ccm8 ccm       16        demanded no    no       none      silence   80        0, 40

Clients         offers                                      EMS       RFC 5746  ticket    hint      after a 20
s_client        as asked                                    yes       SCSV      yes       taken     ends, says it
coap-client     44 suites, ccm and gcm among them, no ccm8  yes       ext.      yes       taken     "bad record mac"
 -gnutls        13 suites, gcm, ccm and ccm8 among them     yes       ext.      yes       taken     "Bad record MAC"
mbedtls-peer    as asked                                    if asked  SCSV      if asked  taken     error, alert: 20
python-mbedtls  as asked                                    yes       SCSV      yes       taken     error
aiocoap         ccm8, ccm                                   demanded  SCSV      no        taken     NetworkError
node            11 suites, CBC first, all of ours last(5)   no        no(6)     no        dies(7)   error, at the 3rd

Silence: the records are dropped, and the client repeats its flight until it gives up.
Demanded: aiocoap (tinydtls) sends 40 to whom does not do extended master secrets, in either role. All others do
without: servers tried with mbedtls-peer or node, clients with mbedtls-peer.
RFC 5746, renegotiation_info: aiocoap's server alone was not tried with a client without it, mbedtls-peer refuses one
only if it is asked to; servers answer the signal.
Connection IDs (RFC 9146, code point 54): mbedtls-peer alone; of 0 to 32 bytes; with resumption, too. What it seals
under one it pads to a multiple of 16. All servers send HelloVerifyRequest.
Datagrams: GnuTLS and aiocoap send a message in each, OpenSSL and Mbed TLS as much of a flight as fits; OpenSSL's client
repeats a flight a message a datagram.

(1) with a line "PSK warning: client identity not what we expected"; the key counts.
(2) all identities have one key here.
(3) its ServerHello has a session id, which it does not know later. With aiocoap there is none.
(4) to the first ClientHello, before any cookie.
(5) unless run_node_client names some. What a server picks among them is its own choice, a CBC suite with GnuTLS.
(6) neither extension nor SCSV; no extension at all.
(7) a ServerKeyExchange ends the process: "unsupported message type 12".

OpenSSL takes CCM_8 only with @SECLEVEL=0, which `suites` adds; libcoap's OpenSSL build cannot be told. s_server with
-listen serves clients of one port alone. coap-server and coap-client take keys as text. OpenSSL's coap-server left an
empty CON that came right after a GET unanswered in 2 of 14 runs, and node-coap-client sends a ping once.
s_server's command q forgets a session without close_notify; s_client stays for half a second after its input's end.
"""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from coaplet_tools.setup.places import ROOT
from interop.processes import PROGRAMS, Broken, free_port

IDENTITY = "node-1@site"
KEY = b"coaplet-test-key"  # text, since libcoap and node-coap-client take no other
SUITES = {"ccm8": "PSK-AES128-CCM8", "ccm": "PSK-AES128-CCM", "gcm": "PSK-AES128-GCM-SHA256"}

_HERE = Path(__file__).parent
_WITHIN_S = 10

Find = Callable[[str], str]  # the fixture `peer`: the path of a program that the setup provides, or a skip


class Peer:
    """A program that runs, with its standard input, and all that it wrote in a file."""

    def __init__(self, command: Sequence[str | Path], output: Path, port: int = 0) -> None:
        self.output, self.port = output, port
        self.command = [str(word) for word in command]
        with output.open("wb") as file:
            self.process = subprocess.Popen(self.command, stdin=subprocess.PIPE, stdout=file, stderr=subprocess.STDOUT)

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def uri(self) -> str:
        return f"coaps://127.0.0.1:{self.port}"

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def write(self, data: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def order(self, do: str, **more: Any) -> None:
        """Give one of the orders of mbedtls_peer.py."""
        self.write(json.dumps({"do": do, **more}).encode() + b"\n")

    def end_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def wait_for(self, pattern: str, within_s: float = _WITHIN_S) -> re.Match[str]:
        """Wait until its output has the pattern; within one line, but `^` and `$` match at each."""
        return self._wait(lambda: re.search(pattern, self.said(), re.MULTILINE), pattern, within_s)

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """What it reported so far (mbedtls_peer.py); name: only events of that name."""
        lines = [json.loads(line) for line in self.said().splitlines() if line.startswith("{") and line.endswith("}")]
        return [line for line in lines if not name or line["event"] == name]

    def wait_for_event(self, name: str, count: int = 1, within_s: float = _WITHIN_S) -> dict[str, Any]:
        """Wait for the count-th event of that name."""
        found = self._wait(lambda: self.events(name)[count - 1 : count], f"event {count} {name}", within_s)
        return found[0]

    def wait_until_ended(self, within_s: float = _WITHIN_S) -> int:
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise Broken(f"did not end:\n{self._shown()}") from None

    def close(self) -> None:
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):  # it has ended, and left what was written
                self.process.stdin.close()
        self.process.kill()
        self.process.wait(10)

    def _wait(self, condition: Callable[[], Any], what: str, within_s: float) -> Any:
        until = time.monotonic() + within_s
        while not (value := condition()):
            ended = self.process.poll()
            if value := condition():
                break
            if ended is not None or time.monotonic() > until:
                raise Broken(f"no {what!r} in the output of\n{self._shown()}")
            time.sleep(0.005)
        return value

    def _shown(self) -> str:
        status = self.process.poll()
        how = "which still runs" if status is None else f"which ended with status {status}"
        return f"{' '.join(self.command)}\n{how}:\n{self.said()[-4000:]}"


@contextmanager
def _started(folder: Path, name: str, command: Sequence[str | Path], port: int) -> Iterator[Peer]:
    """Run it for as long as the block lasts; its output stays in the folder."""
    number = len(list(folder.glob(f"{name}-*.txt")))
    peer = Peer(command, folder / f"{name}-{number}.txt", port)
    try:
        yield peer
    finally:
        peer.close()


def _ciphers(suites: Sequence[str]) -> str:
    return ":".join(SUITES.get(name, name) for name in suites) + ":@SECLEVEL=0"  # of CCM_8 and PSK alone


@contextmanager
def openssl_server(
    find: Find,
    folder: Path,
    *extra: str,
    suites: Sequence[str] = ("ccm8",),
    key: bytes = KEY,
    identity: str = IDENTITY,
    hint: str = "",
    quiet: bool = False,
) -> Iterator[Peer]:
    """Start openssl s_server. What it is given on its standard input, it sends; what it receives, it prints.

    quiet: it prints nothing else, and letters at the start of a line (RFC 7252's first byte may be a P) are no commands
    to it. Otherwise it prints "CIPHER is PSK-AES128-CCM8" when a handshake is done, "Reused session-id" where that was
    a resumed one. extra: such as -no_ticket, -mtu 256.
    """
    words = ["-psk_identity", identity, "-psk", key.hex(), "-nocert", "-cipher", _ciphers(suites)]
    words += ["-psk_hint", hint] if hint else []
    words += ["-quiet"] if quiet else []
    port = free_port()
    command = [find("openssl"), "s_server", "-dtls1_2", "-4", "-accept", f"127.0.0.1:{port}", *words, *extra]
    with _started(folder, "openssl-server", command, port) as server:
        _wait_until_bound(server)
        yield server


@contextmanager
def openssl_client(
    find: Find,
    folder: Path,
    port: int,
    *extra: str,
    suites: Sequence[str] = ("ccm8",),
    key: bytes = KEY,
    identity: str = IDENTITY,
) -> Iterator[Peer]:
    """Start openssl s_client. It sends each piece of its input as a record and prints what it receives.

    It says "CONNECTION ESTABLISHED" and "Ciphersuite: PSK-AES128-CCM8", and ends with its input, with close_notify.
    extra: such as -sess_out FILE, -sess_in FILE, -no_ticket, -mtu 256, -keylogfile FILE.
    """
    words = ["-psk_identity", identity, "-psk", key.hex(), "-cipher", _ciphers(suites), "-brief", "-nocommands"]
    command = [find("openssl"), "s_client", "-dtls1_2", "-connect", f"127.0.0.1:{port}", *words, *extra]
    with _started(folder, "openssl-client", command, port) as client:
        yield client


@contextmanager
def libcoap_server(find: Find, folder: Path, suffix: str = "", *, key: bytes = KEY, hint: str = "") -> Iterator[Peer]:
    """Start libcoap's coap-server; suffix: "" for OpenSSL's build, "-gnutls". Any identity has that key.

    It listens for coap at port - 1, too. GET /time and / have an answer; PUT at any path is stored.
    """
    port = free_port()
    words = ["-A", "127.0.0.1", "-p", str(port), "-d", "50", "-v", "6", "-k", key.decode(), "-h", hint]
    with _started(folder, f"coap-server{suffix}", [find(f"coap-server{suffix}"), *words], port + 1) as server:
        _wait_until_bound(server)
        yield server


def libcoap_client(
    find: Find, uri: str, *arguments: str, suffix: str = "", key: bytes = KEY, identity: str = IDENTITY, wait_s: int = 5
) -> subprocess.CompletedProcess[str]:
    """Run libcoap's coap-client to its end; what it received is in stdout, what went wrong in stderr."""
    words = ["-k", key.decode(), "-u", identity, "-B", str(wait_s), "-v", "5", *arguments, uri]
    return subprocess.run([find(f"coap-client{suffix}"), *words], capture_output=True, text=True, timeout=wait_s + 10)


@contextmanager
def mbedtls_server(find: Find, folder: Path, **settings: Any) -> Iterator[Peer]:
    """Start a server of Mbed TLS 3.6: settings, events and orders are those of mbedtls_peer.py."""
    with _mbedtls(find("mbedtls-peer"), "server", folder, settings) as server:
        server.port = server.wait_for_event("listening")["port"]
        yield server


@contextmanager
def mbedtls_client(find: Find, folder: Path, port: int, **settings: Any) -> Iterator[Peer]:
    with _mbedtls(find("mbedtls-peer"), "client", folder, settings | {"port": port}) as client:
        yield client


@contextmanager
def _mbedtls(program: str, role: str, folder: Path, settings: Mapping[str, Any]) -> Iterator[Peer]:
    given = {"identity": IDENTITY, "key": KEY.hex(), **settings}
    port = settings.get("port", 0)
    with _started(folder, f"mbedtls-{role}", [program, role, json.dumps(given)], port) as peer:
        yield peer


@contextmanager
def python_mbedtls_server(find: Find, folder: Path, **settings: Any) -> Iterator[Peer]:
    """Start a server of python-mbedtls: settings, events and orders are those of python_mbedtls_peer.py."""
    with _python_mbedtls(find, "server", folder, settings) as server:
        server.port = server.wait_for_event("listening")["port"]
        yield server


@contextmanager
def python_mbedtls_client(find: Find, folder: Path, port: int, **settings: Any) -> Iterator[Peer]:
    with _python_mbedtls(find, "client", folder, settings | {"port": port}) as client:
        yield client


@contextmanager
def _python_mbedtls(find: Find, role: str, folder: Path, settings: Mapping[str, Any]) -> Iterator[Peer]:
    given = {"identity": IDENTITY, "key": KEY.hex(), **settings}
    command = [find("python-mbedtls"), _HERE / "python_mbedtls_peer.py", role, json.dumps(given)]
    with _started(folder, f"python-mbedtls-{role}", command, given.get("port", 0)) as peer:
        yield peer


@contextmanager
def aiocoap_server(find: Find, folder: Path, *, key: bytes = KEY, identity: str = IDENTITY) -> Iterator[Peer]:
    """Start aiocoap's server, with the resources of programs/aiocoap_server.py."""
    port = free_port()
    words = ["aiocoap_server.py", "127.0.0.1", str(port)]
    with _started(folder, "aiocoap-server", _aiocoap(find, key, identity, words), port + 1) as server:
        _wait_until_bound(server)
        yield server


def run_aiocoap_client(
    find: Find, uri: str, steps: Sequence[Any], *, key: bytes = KEY, identity: str = IDENTITY
) -> list[Any]:
    """Run aiocoap's client to its end; steps, and what they come to, are those of programs/aiocoap_client.py."""
    return _run_client(_aiocoap(find, key, identity, ["aiocoap_client.py", uri]), steps)


def _aiocoap(find: Find, key: bytes, identity: str, words: Sequence[str]) -> list[str | Path]:
    settings = json.dumps({"key": key.hex(), "identity": identity})
    return [find("python-dtlssocket"), _HERE / "aiocoap_dtls.py", settings, PROGRAMS / words[0], *words[1:]]


def run_node_client(
    find: Find,
    uri: str,
    steps: Sequence[Any],
    *,
    suites: Sequence[str] | None = None,
    key: bytes = KEY,
    identity: str = IDENTITY,
) -> list[Any]:
    """Run node-coap-client to its end; steps, and what they come to, are those of node/client.js."""
    settings = json.dumps({"key": key.decode(), "identity": identity, "suites": suites})
    return _run_client([find("node-coap-client"), _HERE / "node/client.js", uri, settings], steps)


def _run_client(command: Sequence[str | Path], steps: Sequence[Any]) -> list[Any]:
    done = subprocess.run(command, input=json.dumps(steps) + "\n", capture_output=True, text=True, timeout=30, cwd=ROOT)
    if done.returncode:
        raise Broken(f"status {done.returncode}: {done.stdout[-500:]}\n{done.stderr[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def _wait_until_bound(server: Peer) -> None:
    """Wait until something has the server's UDP port."""
    tables = [path for path in (Path("/proc/net/udp"), Path("/proc/net/udp6")) if path.exists()]
    if not tables:  # not Linux
        time.sleep(1)
        return
    local = re.compile(rf"^ *\d+: [0-9A-F]+:{server.port:04X} ", re.MULTILINE)
    server._wait(lambda: any(local.search(table.read_text()) for table in tables), "bound port", _WITHIN_S)
