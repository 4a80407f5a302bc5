# Joining a Wi-Fi network: name and password right or wrong, a network that comes late, goes away and comes back.

import asyncio

from board_fakes import Air, make_network
from node.schema import defaults
from node.wifi import Wifi
from node_fakes import run


class Scene:
    """A Wifi on an Air; `lines`: what it said."""

    def __init__(self, **more):
        self.air = Air()
        self.lines = []
        self.config = defaults()
        self.config.update({"wifi_name": Air.name, "wifi_password": Air.password})
        self.config.update(more)
        self.wifi = Wifi(make_network(self.air), self.lines.append, self.air.sleep, self.air.ticks)

    def connect(self):
        """Join; return how long it took in ms, or raise what connect does."""

        async def joining():
            await self.wifi.connect(self.config)
            self.wifi._task.cancel()

        run(joining())
        return self.air.now

    def refusal(self):
        try:
            self.connect()
        except OSError as e:
            assert 260000 < self.air.now < 325000, self.air.now
            return str(e)
        raise AssertionError("it joined")

    def live(self, until, *events):
        """Join, and watch the link until `until` ms. events: (when, function)."""

        class Over(Exception):
            pass

        def over():
            raise Over

        self.air.events = list(events) + [(until, over)]

        async def living():
            await self.wifi.connect(self.config)
            try:
                await self.wifi._task
            except Over:
                pass

        run(living())


def test_a_network_in_reach_is_joined_with_one_line():
    scene = Scene(wifi_country="DE")
    assert 2000 <= scene.connect() <= 2250
    assert scene.lines == ["node: wifi: joined, 192.0.2.7, -61 dBm"]
    assert scene.air.settings["country"] == "DE"
    assert scene.wifi.signal() == -61


def test_a_network_without_a_password_is_joined_without_one():
    scene = Scene(wifi_password="")
    scene.air.password = None
    scene.connect()
    assert scene.air.asked[1] is None


def test_a_refused_password_is_tried_again_for_five_minutes_and_told():
    scene = Scene(wifi_password="battery staple")
    assert scene.refusal() == "wifi: the password is refused"
    assert scene.lines[0] == "node: wifi: the password is refused; trying again in 1 s"
    assert scene.lines[-1] == "node: wifi: the password is refused; trying again in 30 s"
    # After each try a longer wait, at most 30 s
    gaps = [b - a for a, b in zip(scene.air.tries, scene.air.tries[1:])]
    assert gaps == sorted(gaps) and 30000 <= gaps[-1] <= 33000


def test_another_ports_number_for_a_refused_password_is_understood():
    scene = Scene(wifi_password="battery staple")
    scene.air.wrong = 202
    scene.wifi._network.STAT_WRONG_PASSWORD = 202
    assert scene.refusal() == "wifi: the password is refused"


def test_a_network_that_is_not_there_is_told():
    assert Scene(wifi_name="cellar").refusal() == "wifi: no such network is in reach"


def test_a_radio_that_says_nothing_is_given_20_s_a_try():
    scene = Scene()
    scene.air.status = lambda: 1
    assert scene.refusal() == "wifi: no answer"
    assert 20000 <= scene.air.tries[1] <= 22000


def test_a_radio_that_raises_is_tried_again():
    scene = Scene()
    scene.air.broken = OSError("Wifi Internal Error")

    def mend():
        scene.air.broken = None

    scene.air.events = [(2500, mend)]
    scene.connect()
    assert scene.lines[0] == "node: wifi: the radio says Wifi Internal Error; trying again in 1 s"
    assert scene.lines[-1] == "node: wifi: joined, 192.0.2.7, -61 dBm"


def test_a_network_that_comes_late_is_joined():
    scene = Scene()
    scene.air.reach = False

    def come():
        scene.air.reach = True

    scene.air.events = [(100000, come)]
    assert 100000 < scene.connect() < 135000


def test_a_network_that_was_lost_is_joined_again_however_long_it_was_away():
    scene = Scene()

    def go():
        scene.air.reach = False

    def come():
        scene.air.reach = True

    scene.live(4100000, (60000, go), (4000000, come))
    assert scene.lines[0] == "node: wifi: joined, 192.0.2.7, -61 dBm"
    assert scene.lines[1] == "node: wifi: lost, joining again"
    assert scene.lines[2] == "node: wifi: no such network is in reach; trying again in 1 s"
    assert scene.lines[-1] == "node: wifi: joined again, 192.0.2.7, -61 dBm"
    assert scene.wifi.signal() == -61
    assert scene.air.tries[-1] < 4040000


def test_while_the_network_is_away_there_is_no_signal():
    scene = Scene()

    def go():
        scene.air.reach = False

    scene.live(70000, (60000, go))
    assert scene.wifi.signal() is None


def test_a_radio_that_reconnects_by_itself_is_left_alone():
    scene = Scene()

    def go():
        scene.air.reach = False

    def come():
        scene.air.reach = True

    scene.live(90000, (60100, go), (66000, come))
    assert scene.lines == ["node: wifi: joined, 192.0.2.7, -61 dBm"]


def test_no_line_has_the_name_or_the_password():
    for more in ({}, {"wifi_password": "battery staple"}, {"wifi_name": "cellar"}):
        scene = Scene(**more)
        try:
            scene.connect()
        except OSError as e:
            scene.lines.append(str(e))
        for line in scene.lines:
            for secret in (scene.config["wifi_name"], scene.config["wifi_password"]):
                assert secret not in line, line


def test_cancelling_the_watch_ends_it():
    scene = Scene()

    async def ending():
        await scene.wifi.connect(scene.config)
        scene.wifi._task.cancel()
        try:
            await scene.wifi._task
        except asyncio.CancelledError:
            return True

    assert run(ending())
