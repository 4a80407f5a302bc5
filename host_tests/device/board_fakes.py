"""Doubles of the modules of a board's port: machine, network, esp32, neopixel; and of the access point it joins.

`modules()` gives them, to be put into sys.modules; nothing sleeps, time is the Air's.
"""

GOT_IP = 3


class Air:
    """An access point and the time: joined 2 s after connect(), if name and password are right and it is in reach.

    wrong, missing: the numbers by which the port's status() says so.
    """

    name = "attic net"
    password = "correct horse"

    def __init__(self, wrong=-3, missing=-2):
        self.now = 0
        self.reach = True
        self.wrong = wrong
        self.missing = missing
        self.asked = None  # name, password and when of the last connect()
        self.tries = []  # when each began
        self.settings = {}
        self.broken = None  # an OSError that connect() raises
        self.events = []  # (when, function), in order

    async def sleep(self, s):
        """Let time pass, and happen what happens in it."""
        self.now += int(s * 1000)
        while self.events and self.events[0][0] <= self.now:
            self.events.pop(0)[1]()

    def ticks(self):
        return self.now

    def status(self):
        if self.asked is None:
            return 0
        name, password, when = self.asked
        if self.now < when + 2000:
            return 1
        if not self.reach or name != self.name:
            return self.missing
        return GOT_IP if password == self.password else self.wrong


class Module:
    """A module, or whatever has attributes."""

    def __init__(self, **attributes):
        for key in attributes:
            setattr(self, key, attributes[key])


class Pin:
    OUT = 1

    def __init__(self, name, mode=None):
        self.name = name
        self._on = 0

    def value(self, on=None):
        if on is None:
            return self._on
        self._on = on


class Adc:
    CORE_TEMP = 4
    at = {4: 14021, 26: 0, 27: 32768, 28: 65535}  # 0.706 V: 27 degrees

    def __init__(self, channel):
        self._channel = channel

    def read_u16(self):
        return self.at[self._channel]


class NeoPixel:
    def __init__(self, pin, n):
        self._next = [(0, 0, 0)] * n
        self.shown = list(self._next)

    def __getitem__(self, i):
        return self._next[i]

    def __setitem__(self, i, colour):
        self._next[i] = colour

    def write(self):
        self.shown = list(self._next)


def make_network(air):
    """Return the module `network` of a port, as MicroPython 1.25 has it."""

    class WLAN:
        IF_STA = 0
        PM_NONE = 0xA11140

        def __init__(self, interface):
            assert interface == self.IF_STA

        def active(self, on):
            air.settings["active"] = on

        def config(self, pm):
            assert air.settings["active"]
            air.settings["pm"] = pm

        def connect(self, name, password):
            if air.broken:
                raise air.broken
            air.asked = (name, password, air.now)
            air.tries.append(air.now)

        def disconnect(self):
            air.asked = None

        def isconnected(self):
            return air.status() == GOT_IP

        def status(self, what=None):
            if what is None:
                return air.status()
            assert what == "rssi"
            return -61

        def ipconfig(self, what):
            assert what == "addr4"
            return ("192.0.2.7", "255.255.255.0")

    def set_country(code):
        assert "active" not in air.settings
        air.settings["country"] = code

    def set_hostname(name):
        air.settings["hostname"] = name

    return Module(
        WLAN=WLAN,
        STAT_IDLE=0,
        STAT_CONNECTING=1,
        STAT_GOT_IP=GOT_IP,
        STAT_WRONG_PASSWORD=air.wrong,
        STAT_NO_AP_FOUND=air.missing,
        country=set_country,
        hostname=set_hostname,
    )


def make_machine(cause):
    """Return the module `machine`, with every constant of reset_cause(). cause: what that returns."""
    resets = []
    return Module(
        ADC=Adc,
        Pin=Pin,
        UART=lambda *words, **more: (words, more),
        PWRON_RESET=1,
        HARD_RESET=2,
        WDT_RESET=3,
        DEEPSLEEP_RESET=4,
        SOFT_RESET=5,
        reset_cause=lambda: cause,
        resets=resets,
        reset=lambda: resets.append(True),
    )


def modules(air, cause=1, celsius=41, fahrenheit=122):
    """Return all of them, by name."""
    return {
        "machine": make_machine(cause),
        "network": make_network(air),
        "esp32": Module(mcu_temperature=lambda: celsius, raw_temperature=lambda: fahrenheit),
        "neopixel": Module(NeoPixel=NeoPixel),
    }
