"""A SIMULATED climate sensor: temperature, humidity and pressure that never were.

For boards without a sensor and for tests; everything it offers is named sim-climate-... and its
titles say "simulated". The values are a pure function of (seed, seconds): the same seed shows the
same weather on every runtime, two seeds show two places. They vary slowly: a daily wave, and noise
that is drawn at lattice points in time and joined smoothly between them.

Small integers below 2**30 and few of them: nothing here needs a heap object larger than a float.
"""

from math import pi, sin

_DAY_S = 86400


class Climate:
    """seed: 0..65535; seconds: function that returns whole seconds, of any epoch."""

    def __init__(self, seed, seconds):
        self._seed = seed
        self._seconds = seconds

    def temperature(self):
        """Return degrees Celsius, about 5 to 31; warmest in the afternoon."""
        return round(self._temperature(self._seconds()), 2)

    def humidity(self):
        """Return percent relative humidity, 15 to 99; it falls as the temperature rises."""
        t = self._seconds()
        value = 60 - 2.2 * (self._temperature(t) - 18) + 6 * self._noise(t, 1800, 2)
        return round(min(99.0, max(15.0, value)), 1)

    def pressure(self):
        """Return hectopascal, about 995 to 1031."""
        t = self._seconds()
        return round(1013 + 17 * self._noise(t, 21600, 3) + 0.6 * self._noise(t, 900, 4), 1)

    def sensors(self):
        """Return its rows for a board's `sensors`: (name, unit, rt, title, read)."""
        return [
            ("sim-climate-temperature", "Cel", "temperature", "Temperature (simulated)", self.temperature),
            ("sim-climate-humidity", "%RH", "humidity", "Humidity (simulated)", self.humidity),
            ("sim-climate-pressure", "hPa", "pressure", "Air pressure (simulated)", self.pressure),
        ]

    def _temperature(self, t):
        place = 4 * _draw(self._seed, 0, 0)
        # The remainder first: a board's float has 24 bits, too few for seconds since 1970.
        wave = sin(2 * pi * (t % _DAY_S) / _DAY_S - 2.3)
        return 18 + place + 5 * wave + 3 * self._noise(t, 7200, 1) + 0.6 * self._noise(t, 300, 5)

    def _noise(self, t, step, stream):
        # -1..1: two draws at the lattice points around t, joined by 3f^2 - 2f^3.
        k = t // step
        f = (t % step) / step
        a = _draw(self._seed, k, stream)
        b = _draw(self._seed, k + 1, stream)
        return a + (b - a) * f * f * (3 - 2 * f)


def _draw(seed, k, stream):
    # A number in -1..1 that depends on all three: 16-bit xorshift, an addition between the rounds
    # because a linear step alone would make neighbouring k look alike.
    x = (seed ^ 0xACE1) & 0xFFFF
    for part in (k & 0xFFFF, k >> 16 & 0xFFFF, stream * 977, 0x5A5A):
        x = (x + part) * 181 & 0xFFFF or 1
        x ^= x << 7 & 0xFFFF
        x ^= x >> 9
        x ^= x << 8 & 0xFFFF
    return x / 32768 - 1
