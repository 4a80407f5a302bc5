"""Wi-Fi: joining the configured network, and joining it again whenever it is lost.

    connect     sets the radio up, joins, and leaves a task behind that watches the link
    one try     ends with an address, with the radio's own verdict, or after 20 s
    between     1 s, 2 s, 4 s ... 30 s; at the start all tries together last 5 minutes, then OSError:
                whoever started the node starts the board anew, radio included
    lost later  the node goes on measuring and queues its records, and this goes on trying for ever

A refused password is tried again as well: access points that start up refuse right ones. Sockets stay
open through all of it. No line tells the network's name or its password.
For a board.py, which gives its port's `network`: there is no test of a platform here.
"""

import asyncio

from coaplet.port import ticks_diff, ticks_ms

from .log import console

_STEP_MS = 250  # how often a try looks
_WATCH_MS = 5000
_TRY_MS = 20000
_START_MS = 300000
_LONGEST_MS = 30000


class Wifi:
    """The board's radio as a station of an access point.

    network: the port's module; sleep, ticks: for tests; out: function of a line, the console.
    """

    def __init__(self, network, out=console, sleep=asyncio.sleep, ticks=ticks_ms):
        self._network = network
        self._out = out
        self._sleep = sleep
        self._ticks = ticks
        self._wlan = None
        self._task = None

    async def connect(self, config):
        """Join the network of wifi_name, with wifi_password, and keep to it. config: dict of the running values.

        Raises OSError, one line, when no network is configured or none could be joined in 5 minutes.
        """
        if not config["wifi_name"]:
            raise OSError("wifi: no network is configured (wifi_name)")
        self._up(config)
        started = self._ticks()
        wait = 1000
        while True:
            trouble = await self._join(config)
            if not trouble:
                break
            if ticks_diff(self._ticks(), started) + wait > _START_MS:
                raise OSError("wifi: " + trouble)
            wait = await self._wait(trouble, wait)
        self._say("joined, %s, %s dBm" % (self._wlan.ipconfig("addr4")[0], self.signal()))
        self._task = asyncio.create_task(self._keep(config))

    def signal(self):
        """Return the access point's signal in dBm, or None while there is none."""
        if self._wlan is None or not self._wlan.isconnected():
            return None
        return self._wlan.status("rssi")

    def _up(self, config):
        network = self._network
        if config["wifi_country"]:
            network.country(config["wifi_country"])  # which channels are allowed: before the radio starts
        network.hostname("".join([c if c not in "._" else "-" for c in config["name"]]))
        wlan = self._wlan = network.WLAN(network.WLAN.IF_STA)
        wlan.active(True)
        # A radio that saves power sleeps between the access point's beacons, and requests wait for the next one.
        wlan.config(pm=network.WLAN.PM_NONE)

    async def _join(self, config):
        # One try. Returns None, or what went wrong.
        wlan = self._wlan
        try:
            wlan.disconnect()  # what a radio may have kept since before a soft reset could be another network
            wlan.connect(config["wifi_name"], config["wifi_password"] or None)
            started = self._ticks()
            while not wlan.isconnected():
                if ticks_diff(self._ticks(), started) > _TRY_MS:
                    return self._verdict() or "no answer"
                await self._sleep(_STEP_MS / 1000)
                # Right after connect() some radios still show how the try before ended
                if ticks_diff(self._ticks(), started) > 8 * _STEP_MS and self._verdict():
                    return self._verdict()
        except OSError as e:
            return "the radio says %s" % e
        return None

    def _verdict(self):
        # What the radio says of a try that has ended, or None. Each port has its own numbers, and not all of the names.
        status = self._wlan.status()
        for name, text in (
            ("STAT_WRONG_PASSWORD", "the password is refused"),
            ("STAT_NO_AP_FOUND", "no such network is in reach"),
            ("STAT_CONNECT_FAIL", "the access point refuses"),
            ("STAT_ASSOC_FAIL", "the access point refuses"),
            ("STAT_HANDSHAKE_TIMEOUT", "the password is refused, or the signal is weak"),
        ):
            if getattr(self._network, name, self) == status:
                return text
        return None

    async def _wait(self, trouble, wait):
        # Returns how long the next wait is.
        self._say("%s; trying again in %d s" % (trouble, wait // 1000))
        await self._sleep(wait / 1000)
        return min(2 * wait, _LONGEST_MS)

    async def _keep(self, config):
        # Watches the link for ever. A radio that reconnects by itself is given one look's time to do so.
        while True:
            while self._linked():
                await self._sleep(_WATCH_MS / 1000)
            await self._sleep(_WATCH_MS / 1000)
            if self._linked():
                continue
            self._say("lost, joining again")
            wait = 1000
            trouble = await self._join(config)
            while trouble:
                wait = await self._wait(trouble, wait)
                trouble = await self._join(config)
            self._say("joined again, %s, %s dBm" % (self._wlan.ipconfig("addr4")[0], self.signal()))

    def _linked(self):
        try:
            return self._wlan.isconnected()
        except OSError:
            return False

    def _say(self, text):
        self._out("node: wifi: " + text)
