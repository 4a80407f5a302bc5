"""The client of the ETSI plugtests: plugtest_client.py URI [CASE...] [PERIOD_MS] [NAME=PATH...] gives verdicts.

It runs the cases CORE, LINK, BLOCK and OBS, or those that begin with a CASE, against any server, and prints a line for
each: PASS, FAIL or SKIP, and why. PERIOD_MS: how often the server's /obs changes, 5000 in the tests; below 2000 it is
ACK_TIMEOUT, too. NAME=PATH: where the server has what the tests call /NAME ("obs=time"). coaps:// takes PSK below.
The exit status is 1 when a case failed. Left out are CORE_24 to CORE_29, whose subject is a proxy.
"""

import asyncio
import socket
import sys

from coaplet import CoapError, Node, Udp, code_text

# What is sent, > what must come back: the code and words that check() knows; and so on. Of a request: NON, known,
# match and none are options; "text" is a payload. Other lines begin with a name of a method of Tests below.
CASES = """
CORE_01 GET test > 2.05 ACK ct payload
CORE_02 DELETE test > 2.02 ACK
CORE_03 PUT test "con" > 2.04/2.01 ACK
CORE_04 POST test "con" > 2.01/2.04 ACK
CORE_05 GET test NON > 2.05 NON ct payload
CORE_06 DELETE test NON > 2.02 NON
CORE_07 PUT test NON "non" > 2.04/2.01 NON
CORE_08 POST test NON "non" > 2.01/2.04 NON
CORE_09 GET separate > 2.05 CON ct payload
CORE_10 GET test > 2.05 ACK token payload
CORE_11 GET separate > 2.05 CON token ct payload
CORE_12 without_token test
CORE_13 GET seg1/seg2/seg3 > 2.05 ACK payload
CORE_14 GET query?first=1&second=2&third=3 > 2.05 ACK payload
CORE_15 losing test > CON 0.01, < ACK 2.05
CORE_16 losing separate > CON 0.01; < ACK 0.00; < CON 2.05; > ACK 0.00
CORE_17 GET separate NON > 2.05 NON ct payload
CORE_18 POST test "new" > 2.01 location=location1/location2/location3
CORE_19 POST location-query "new" > 2.01 location=?first=1&second=2
CORE_20 GET multi-format accept=0 > 2.05 ct=0 payload; GET multi-format accept=41 > 2.05 ct=41 payload
CORE_21 GET validate > 2.05 etag payload; GET validate known > 2.03 known empty; PUT validate "1" > 2.04;\
 PUT validate "2" > 2.04; GET validate known > 2.05 etag new payload=2
CORE_22 GET validate > 2.05 etag; PUT validate match "3" > 2.04; GET validate > 2.05 etag new payload=3;\
 PUT validate "4" > 2.04; PUT validate match "5" > 4.12; GET validate > 2.05 payload=4
CORE_23 DELETE create1 > 2.02/4.04; PUT create1 none "6" > 2.01; PUT create1 none "7" > 4.12
CORE_31 ping
LINK_01 GET .well-known/core > 2.05 ct=40 payload
LINK_02 links rt=Type1
LINK_03 links rt=*
LINK_04 links rt=Type2
LINK_05 links if=If*
LINK_06 links sz=*
LINK_07 links href=/link1
LINK_08 links href=/link*
LINK_09 GET path > 2.05 ct=40 has=</path/sub1> has=</path/sub2>; GET path/sub1 > 2.05 payload;\
 GET .well-known/core > 2.05 ct=40 has=</path>
BLOCK_01 GET large block=512 > 2.05 blocks=512; GET large block=256 > 2.05 blocks=256 same
BLOCK_02 GET large > 2.05 blocks=1024; GET large block=128 > 2.05 blocks=128 same
BLOCK_03 PUT large-update block=256 "BIG" > 2.04/2.01 last; GET large-update > 2.05 sent
BLOCK_04 POST large-create block=256 "BIG" > 2.01 last location; GET @ > 2.05 sent
BLOCK_05 POST large-post block=256 "BIG" > 2.04 last blocks=1024
BLOCK_06 GET large block=16 > 2.05 blocks=16; GET large > 2.05 same
OBS_01 observe obs
OBS_02 observe obs-non NON
OBS_04 observe obs forget
OBS_05 observe obs deaf
OBS_06 observe obs reset
OBS_07 observe obs delete
OBS_08 observe obs format
OBS_09 observe obs put
OBS_10 observe obs get
OBS_11 observe obs losing
OBS_12 observe obs cancel
OBS_13 observe obs-large large
OBS_14 observe obs-pumping pumping
"""
PSK = ("Client_identity", "secretPSK")
BIG = "".join([chr(97 + i % 26) for i in range(1500)])
METHODS = ("", "GET", "POST", "PUT", "DELETE")
GET, POST, PUT, DELETE = 1, 2, 3, 4
KINDS = ("CON", "NON", "ACK", "RST")
CON, NON, ACK = 0, 1, 2
IF_MATCH, ETAG, IF_NONE_MATCH, OBSERVE, LOCATION_PATH, LOCATION_QUERY, BLOCK2, BLOCK1 = 1, 4, 5, 6, 8, 20, 23, 27


class Skip(Exception):
    pass


class Fail(Exception):
    pass


def need(condition, text):
    if not condition:
        raise Fail(text)


class Wire(Udp):
    """UDP that keeps a log of what goes through it, "> CON 0.01" what is sent, and loses what it is told to."""

    deaf = False

    def begin(self):
        self.log = []  # (line, datagram)
        self.lose = []  # lines: when a datagram is as the first one says, it is lost, and the next line's turn comes

    def is_lost(self, way, data):
        line = "%s %s %s" % (way, KINDS[data[0] >> 4 & 3], code_text(data[1]))
        self.log.append((line, bytes(data)))
        if self.lose and self.lose[0] == line:
            return self.lose.pop(0)
        return self.deaf and way == "<"

    def receive(self):
        found = super().receive()
        while found and len(found[0]) > 3 and self.is_lost("<", found[0]):
            found = super().receive()
        return found

    def send(self, buf, peer):
        return self.is_lost(">", buf) or super().send(buf, peer)

    def of(self, line):
        return [data for each, data in self.log if each == line]


def blocks(reply, most):
    """Tell whether a reply came in several blocks of `most` bytes or less; what is in them, the library has checked."""
    block = reply.uint(BLOCK2, 0)
    return block & 8 and 16 << (block & 7) <= most and len(reply.payload) > 16 << (block & 7)


def location(reply):
    query = b"&".join(reply.options(LOCATION_QUERY)).decode()
    return b"/".join(reply.options(LOCATION_PATH)).decode() + (query and "?" + query)


def check(word, reply, before, sent, tags):
    """Tell whether a reply is as a word of CASES says. before: the reply to the last step; tags: ETags so far."""
    name, _, value = word.partition("=")
    if word in KINDS:
        return KINDS[reply.kind] == word
    if name == "ct":
        return reply.content_format is not None and (not value or reply.content_format == int(value))
    if name == "payload":
        return reply.text() == value if value else reply.payload_size > 0
    if name == "location":
        return location(reply) == value if value else location(reply).count("/") == 1
    if name == "etag":
        tags.append(reply.option(ETAG))
        return tags[-1]
    return {
        "token": lambda: reply.tkl > 0,
        "empty": lambda: not reply.payload_size,
        "known": lambda: reply.option(ETAG) == tags[0],
        "new": lambda: tags[-1] != tags[-2],
        "has": lambda: value in reply.text(),
        "same": lambda: reply.payload == before.payload,
        "sent": lambda: reply.text() == sent,
        "last": lambda: not reply.uint(BLOCK1, 0) & 8,
        "blocks": lambda: blocks(reply, int(value)),
    }[name]()


class Tests:
    """The cases against one server. wire: None over DTLS; ms: the period of /obs; ack_ms: ACK_TIMEOUT; at: aliases."""

    def __init__(self, node, remote, wire, ms, ack_ms, at):
        self.node = node
        self.remote = remote
        self.wire = wire
        self.ms = ms
        self.ack_ms = ack_ms
        self.at = at

    async def run(self, verb, rest):
        if verb in METHODS:
            await self.steps((verb + " " + rest).split("; "))
            return
        if verb in ("without_token", "losing") or rest.split(" ")[-1] in ("deaf", "reset", "losing"):
            self.need_wire()
        await getattr(self, verb)(*rest.split(" ", 1))

    def need_wire(self):
        if self.wire is None:
            raise Skip("over DTLS one datagram looks like the other")

    async def ask(self, method, path, **kwargs):
        """Returns the reply, also where it is an error."""
        name, mark, query = path.partition("?")
        try:
            return await self.remote.request(method, self.at.get(name, name) + mark + query, **kwargs)
        except CoapError as error:
            if error.reply is None:
                raise
            return error.reply

    async def steps(self, steps):
        tags = []
        before = sent = None
        for step in steps:
            request, _, expected = step.partition(" > ")
            method, path, *words = request.split(" ")
            kwargs = {"confirmable": "NON" not in words}
            for word in words:
                name, _, value = word.partition("=")
                if value:
                    kwargs[name] = int(value)
                elif name[0] == '"':
                    kwargs["payload"] = sent = BIG if name == '"BIG"' else name.strip('"')
                    kwargs["ct"] = 0
            number = ETAG if "known" in words else IF_MATCH if "match" in words else IF_NONE_MATCH
            if number != IF_NONE_MATCH or "none" in words:
                tag = b"" if number == IF_NONE_MATCH else tags[0] if number == ETAG else tags[-1]
                kwargs["options"] = ((number, tag),)
            path = location(before) if path == "@" else path
            reply = await self.ask(METHODS.index(method), path, **kwargs)
            code, _, words = expected.partition(" ")
            what = "%s to %s of /%s" % (code_text(reply.code), method, path)
            if before is None and code_text(reply.code) == "4.04" != code[-4:]:
                raise Skip("there is no /" + path)
            need(code_text(reply.code) in code.split("/"), what)
            for word in words.split():
                need(check(word, reply, before, sent, tags), "%s: %s is wrong" % (what, word))
            before = reply

    async def ping(self, _=None):
        await self.remote.ping()

    async def links(self, query):
        name, _, wanted = query.partition("=")
        meant = set()
        for link in await self.get_links(""):
            target, _, attributes = link.partition(">")
            for attribute in ("href=" + target + attributes).split(";"):
                key, _, values = attribute.partition("=")
                for value in values.strip('"').split(" "):
                    if key == name and (value == wanted or wanted[-1] == "*" and value.startswith(wanted[:-1])):
                        meant.add(link)
        if not meant:
            raise Skip("there are no such links")
        found = await self.get_links("?" + query)
        need(set(found) == meant, "the links are %s" % found)

    async def get_links(self, query):
        reply = await self.ask(GET, ".well-known/core" + query)
        need(reply.code == 69 and reply.content_format == 40, "%s to GET of links" % code_text(reply.code))
        return [link.lstrip("<") for link in reply.text().split(",<")]

    async def without_token(self, path):
        """Ask with a socket of its own: our client's tokens have 8 bytes each."""
        parts = self.at.get(path, path).encode().split(b"/")
        options = b"".join([bytes((len(part) | (0 if i else 0xB0),)) + part for i, part in enumerate(parts)])
        s = socket.socket(self.wire.family, socket.SOCK_DGRAM)
        s.settimeout(3)
        try:
            s.sendto(b"\x40\x01\x12\x12" + options, self.remote.peer)
            data = s.recv(1500)
        finally:
            s.close()
        need(data[:4] == b"\x60\x45\x12\x12" and data.find(b"\xff") > 0, "it begins with %s" % data[:4])

    async def losing(self, path, losses):
        """Each of the losses, or several at once, must be made up for with the same datagram."""
        wire = self.wire
        for lose in losses.split("; "):
            wire.begin()
            wire.lose = lose.split(", ")
            last = wire.lose[-1]
            await self.steps(("GET %s > 2.05 payload" % path,))
            again = last == "< ACK 0.00" or await self.until(lambda line=last: len(wire.of(line)) > 1, 4000)
            need(again and not wire.lose, "%s was not sent again" % lose)
            for line in "> CON 0.01", "< CON 2.05":
                need(len(set(wire.of(line))) < 2, "%s was sent again as something else" % line)

    async def until(self, condition, ms):
        while ms > 0 and not condition():
            await asyncio.sleep(0.05)
            ms -= 50
        return condition()

    async def observe(self, path, what=""):
        path = self.at.get(path, path)
        obs = self.remote.observe(path, confirmable=what != "NON")
        try:
            await self.watch(obs, path, what)
        finally:
            try:
                await obs.cancel()
            except CoapError:
                pass

    async def watch(self, obs, path, what):
        """See the first state and notifications, then do what the case is about, and see what comes of it."""
        try:
            first = await obs.next()
        except CoapError as error:
            if code_text(error.code) == "4.04":
                raise Skip("there is no /" + path)
            raise
        kind = NON if what == "NON" else ACK
        ct = first.content_format
        need(first.kind == kind and obs.registered and ct is not None, "it is not observed")
        if what == "losing":
            self.wire.lose = ["< CON 2.05", "> ACK 0.00"] * 2
        last = None
        sizes = set()
        n = 8 if what == "pumping" else 5 if what == "losing" else 2
        while n and len(sizes) < 2:
            n -= 1
            reply = await obs.next()
            if reply.option(BLOCK2) and reply.option(OBSERVE) is None:
                continue  # it changed while its blocks were fetched, and was fetched anew
            need(reply.uint(OBSERVE, last) != last, "a notification has Observe %s again" % last)
            if what != "losing":  # after two losses it is so old that we register again
                need(reply.kind == CON or reply.kind == kind == NON, "a notification is " + KINDS[reply.kind])
            need(reply.content_format == ct, "the Content-Format changes")
            need(what != "large" and not reply.option(BLOCK2) or blocks(reply, 1024), "it does not come in blocks")
            last = reply.uint(OBSERVE)
            if what == "pumping":
                sizes.add(reply.option(BLOCK2) is None)
        need(what != "pumping" or len(sizes) > 1, "all states are of one sort")
        wire = self.wire
        need(what != "losing" or not wire.lose, "nothing was sent again")
        need(wire is None or len(wire.of("> ACK 0.00")) >= len(wire.of("< CON 2.05")) - 4, "not all was acknowledged")
        if what in ("delete", "format"):
            await self.end(obs, path, what, ct)
        elif hasattr(self, "on_" + what):
            await getattr(self, "on_" + what)(obs, path, first)

    def heard(self):
        if self.wire is None:
            return self.node.counters.received
        return len(self.wire.of("< CON 2.05")) + len(self.wire.of("< NON 2.05"))

    async def silence(self):
        before = self.heard()
        await asyncio.sleep(2.5 * self.ms / 1000)
        need(before == self.heard(), "there are more notifications")

    async def on_forget(self, obs, path, first):
        if code_text((await self.ask(POST, "obs-reset", payload="sesame")).code) != "2.04":  # not offered: cancelled
            await self.remote.once(GET, path, options=((OBSERVE, 1),), token=obs.token)
        n = 3
        reply = await obs.next()
        while reply.kind != ACK and n:
            n -= 1
            reply = await obs.next()
        need(reply.kind == ACK, "it was not forgotten")
        need(reply.option(OBSERVE) is not None and (await obs.next()).kind == CON, "it is not observed again")

    async def on_deaf(self, obs, path, first):
        self.wire.begin()
        self.wire.deaf = True
        try:
            await asyncio.sleep(50 * self.ack_ms / 1000)  # MAX_TRANSMIT_SPAN is 45 of them
            need(self.heard() > 1, "nothing was sent again")
            await self.silence()
        finally:
            self.wire.deaf = False

    async def on_reset(self, obs, path, first):
        obs.close()
        need(await self.until(lambda: self.wire.of("> RST 0.00"), 3 * self.ms), "nothing was there to be rejected")
        await self.silence()

    async def end(self, obs, path, what, ct):
        """DELETE, or another Content-Format, must end the observation with an error."""
        if what == "delete":
            reply = await self.ask(DELETE, path)
        else:
            reply = await self.ask(PUT, path, payload="1", ct=0 if ct else 50)
        need(reply.code < 128, "%s: nothing comes of it" % code_text(reply.code))
        n = 3
        error = None
        while n and error is None:
            n -= 1
            try:
                await obs.next()
            except CoapError as e:
                error = e
        need(error and error.reply, "the observation does not end: %s" % error)
        right = ("4.04",) if what == "delete" else ("4.06", "5.00")
        need(code_text(error.code) in right and error.reply.kind == CON, "it ends with %s" % error)
        need(error.reply.option(OBSERVE) is None, "Observe in an error")
        await self.silence()
        await self.ask(PUT, path, payload="as before", ct=ct)

    async def on_put(self, obs, path, first):
        await self.ask(PUT, path, payload="news", ct=first.content_format)
        n = 3
        while n and (await obs.next()).text() != "news":
            n -= 1
        need(n, "there are no news")

    async def on_get(self, obs, path, first):
        reply = await self.ask(GET, path)
        need(reply.kind == ACK and reply.option(OBSERVE) is None, "Observe in the answer to a plain GET")
        need((await obs.next()).kind == CON, "there are no more notifications")

    async def on_cancel(self, obs, path, first):
        reply = await obs.cancel()
        need(reply and reply.kind == ACK and reply.option(OBSERVE) is None, "it is not cancelled")
        await self.silence()


async def main(uri, *args):
    chosen = [arg for arg in args if "=" not in arg and not arg.isdigit()]
    at = dict([arg.split("=") for arg in args if "=" in arg])
    period_ms = int(([arg for arg in args if arg.isdigit()] or [5000])[0])
    ack_ms = min(2000, period_ms)
    secure = uri.startswith("coaps:")
    wire = None if secure else Wire("::" if "[" in uri else "0.0.0.0", 0, 1152)
    if wire:
        wire.begin()
    counts = {"PASS": 0, "FAIL": 0, "SKIP": 0}
    cases = CASES.strip().split("\n")
    async with Node(transports=(wire,) if wire else (), ack_timeout_ms=ack_ms) as node:
        remote = await node.connect(uri, psk=PSK if secure else None)
        tests = Tests(node, remote, wire, period_ms, ack_ms, at)
        for line in [line for name in chosen or ("",) for line in cases if line.startswith(name)]:
            case, verb, rest = (line + "  ").split(" ", 2)
            verdict, why = "PASS", ""
            if wire:
                wire.begin()
            try:
                await asyncio.wait_for(tests.run(verb, rest.strip()), 30 + (15 * period_ms + 60 * ack_ms) / 1000)
            except Skip as error:
                verdict, why = "SKIP", error
            except (Fail, CoapError, OSError) as error:
                verdict, why = "FAIL", error
            except asyncio.TimeoutError:
                verdict, why = "FAIL", "it waits for what does not come"
            counts[verdict] += 1
            print("%s %s %s" % (verdict, case, why))
    print(", ".join(["%d %s" % (counts[verdict], verdict) for verdict in ("PASS", "FAIL", "SKIP")]))
    return counts["FAIL"] > 0


sys.exit(asyncio.run(main(*sys.argv[1:])))
