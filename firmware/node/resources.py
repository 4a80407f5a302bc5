"""What CoAP clients may read and set: the node's resources.

    /sensors   /sensors/NAME   /sensors/NAME/history   /info   /time   /led   /config
    and /battery, /signal where the board has them

What can be observed (RFC 7641): the sensors, told of at each sampling; /led and /config, when they change. A reading
that gets lost is soon followed by another one, so of sensors that are sampled often only each fourth notification is
confirmable. Above a minute each is: the library would repeat a lone one as a CON anyway. The others always are.

Handlers are plain functions: each answers in place, from what is in memory or a quick reading.
No protocol here: paths, texts, and errors by their names. Where the path says it all there is no
title: all links together had better fit the one datagram that answers /.well-known/core. The histories are one resource
and not listed, for a resource each would take more memory than what is in them.
"""

import coaplet
from coaplet import CoapError

from . import FIRMWARE, VERSION
from .clock import iso
from .config import public_text
from .records import encode, join
from .schema import ConfigError

_OBSERVE = 6
_MAX_AGE = 14
_ACCEPT = 17
_JSON = 50
_OFTEN_S = 60
_EACH = 4  # notification of what is sampled at least that often is a CON


class Resources:
    """app: an App that has its parts."""

    def __init__(self, app):
        self._app = app

    def register(self):
        """Serve everything on app.coap. Returns the paths, one text."""
        app = self._app
        add = app.coap.resource
        paths = []

        def serve(path, handler, **attributes):
            paths.append("/" + path)
            add(path, **attributes)(handler)

        serve("info", self.info, rt="info", ct=_JSON)
        serve("config", self.config, methods="GET PUT", rt="config", ct=_JSON, observe=True)
        serve("time", self.time, rt="time", ct=0)
        if app.board.led_get:
            title = app.board.led_title
            serve("led", self.led, methods="GET PUT", rt="led", if_="actuator", title=title, ct=0, observe=True)
        each = _EACH if app.config.running["interval_s"] <= _OFTEN_S else True
        serve("sensors", self.sensors, rt="sensors", if_="sensor", ct=_JSON, observe=each)
        for sensor in app.sensors.all:
            get = Reader(sensor, app.config.running).get
            serve(sensor.path, get, rt=sensor.rt, if_="sensor", title=sensor.title, ct=(0, _JSON), observe=each)
        add("sensors/*", ct=_JSON)(self.history)
        app.sensors.changed = app.coap.changed
        return " ".join(paths)

    def info(self, request, response):
        """GET: name, version, board ... and the counters, JSON."""
        response.payload(_text(info(self._app)).encode(), ct=_JSON)

    def time(self, request, response):
        """GET: the time as ISO 8601 text; 5.03 while the clock is not set, since it may yet be."""
        now = self._app.clock.now_ms()
        if now is None:
            raise CoapError(coaplet.SERVICE_UNAVAILABLE, "the clock is not set")
        response.text(iso(now))

    def led(self, request, response):
        """GET: 1 or 0. PUT: 1, 0, on or off; anything else 4.00."""
        board = self._app.board
        if request.method == coaplet.GET:
            response.text("1" if board.led_get() else "0")
            return
        wanted = bytes(request.payload).strip()
        if wanted == b"1" or wanted == b"on":
            board.led_set(True)
        elif wanted == b"0" or wanted == b"off":
            board.led_set(False)
        else:
            raise CoapError(coaplet.BAD_REQUEST, "led: must be 0, 1, on or off")
        self._app.coap.changed("led")

    def config(self, request, response):
        """GET: the stored configuration without its secrets, JSON. PUT: JSON object of the keys to change.

        The answer says what is in force at once and what waits for the next start; 4.00 names the
        key that is wrong; 4.15 for a format that is not JSON; 5.03 when it cannot be stored.
        """
        app = self._app
        if request.method == coaplet.GET:
            response.payload(public_text(app.config.values).encode(), ct=_JSON)
            return
        if request.content_format not in (None, 0, _JSON):
            raise CoapError(coaplet.UNSUPPORTED_CONTENT_FORMAT, "config: must be JSON")
        try:
            now, later = app.config.put(bytes(request.payload))
        except ConfigError as e:
            raise CoapError(coaplet.BAD_REQUEST, str(e))
        except OSError as e:
            raise CoapError(coaplet.SERVICE_UNAVAILABLE, "config: cannot be stored: %s" % e)
        response.text(app.configured(now, later))

    def sensors(self, request, response):
        """GET: every sensor below /sensors, JSON {NAME: {"value","unit"}}; null: cannot be read."""
        sampled = observed(request, response, self._app.config.running)
        response.payload(self._app.sensors.json(sampled).encode(), ct=_JSON)

    def history(self, request, response):
        """GET: what a sensor was at the last samplings, JSON, in blocks (sensors.py); 4.04 for any other path."""
        path = request.path
        if not path.endswith("/history") or not self._app.sensors.history(path[:-8], response.write):
            raise CoapError(coaplet.NOT_FOUND)
        response.option(coaplet.CONTENT_FORMAT, _JSON)


def info(app):
    """Return what a node says of itself: (key, value) pairs, in an order for people; a list is pairs again."""
    coap = app.coap
    count = coap.counters
    pairs = [
        ("name", app.config.running["name"]),
        ("version", VERSION),
        ("board", app.board.name),
        ("firmware", FIRMWARE),
        ("runtime", app.board.runtime),
        ("uptime_s", app.clock.up_ms() // 1000),
        ("boot", app.boot),
    ]
    exchange = [
        ("requests", count.requests),
        ("retransmissions", count.retransmissions),
        ("duplicates", count.duplicates),
        ("timeouts", count.timeouts),
        ("rtt_ms", coap.rtt_ms),
    ]
    pairs.append(("coap", exchange))
    queue = app.queue
    if queue:
        waiting = [("queued", queue.queued), ("dropped", queue.dropped), ("refused", app.sender.refused)]
        pairs.append(("queue", waiting))
    return pairs


def _text(pairs):
    return join([(key, _text(value) if isinstance(value, list) else encode(value)) for key, value in pairs])


def observed(request, response, config):
    """Return whether a request is an observer's, who is told of samples; others have the sensor read.

    What an observer gets is good until the next sample but one, since a notification may get lost.
    """
    if request.uint(_OBSERVE) != 0:
        return False
    response.option(_MAX_AGE, 2 * config["interval_s"])
    return True


class Reader:
    """Serves one sensor: text, or JSON for a client that accepts it. A class, not a closure: 32-bit
    boards keep a closure's cells apart, and its traceback has no name."""

    def __init__(self, sensor, config):
        self._sensor = sensor
        self._config = config

    def get(self, request, response):
        """GET: the number as text, or {"value","unit"}; 5.03 when the sensor cannot be read."""
        sensor = self._sensor
        text = sensor.state(observed(request, response, self._config))
        if text is None:
            raise CoapError(coaplet.SERVICE_UNAVAILABLE, sensor.name + ": cannot be read")
        accept = request.uint(_ACCEPT)
        if accept == _JSON:
            response.payload(('{"value":%s,"unit":%s}' % (text, encode(sensor.unit))).encode(), ct=_JSON)
        elif accept is None or accept == 0:
            response.text(text)
        else:
            raise CoapError(coaplet.NOT_ACCEPTABLE, "text (0) or JSON (50)")
