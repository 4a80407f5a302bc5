"""What a configuration may say: keys, kinds, ranges, defaults, and when a change takes effect.

The table is the only place that knows them; README.md shows it to people. Invariants:
`check` never alters its input, and it refuses with one line that begins with the key at fault. The
values of SECRET keys are in no such line, and nothing but config.json and its copies shows them.
Called by config.py, and on the host by `make deploy`.
"""

from coaplet.uri import split

LEVELS = ("debug", "info", "warn", "error")
CLOUDS = ("golioth", "thingsboard", "emqx", "coap")  # files of clouds/
# What a cloud cannot do without
NEEDS = {"thingsboard": "cloud_token", "coap": "cloud_path"}

# (key, kind, low, high, default, at once). low and high bound the value of an int and the length of a text, and low are
# the words of a choice; at once: a running node follows a change, else it does at its next start.
SCHEMA = (
    ("name", "name", 1, 32, "node", False),
    ("listen", "uri", 1, 128, "coap://0.0.0.0:5683", False),
    ("collector", "server", 0, 128, "", False),
    ("cloud", "choice", CLOUDS, 0, "golioth", False),
    ("cloud_path", "template", ("node", "kind", "name"), 128, "", False),
    ("cloud_method", "choice", ("POST", "PUT"), 0, "POST", False),
    ("cloud_user", "text", 0, 64, "", False),
    ("cloud_token", "text", 0, 128, "", False),
    ("allow_plain", "bool", 0, 0, False, False),
    ("psk_identity", "text", 0, 128, "", False),
    ("psk_key", "key", 1, 64, "", False),
    ("interval_s", "int", 1, 86400, 60, True),
    ("log_level", "choice", LEVELS, 0, "info", True),
    ("log_format", "choice", ("json", "cbor"), 0, "json", True),
    ("queue", "int", 4, 1024, 64, False),
    ("seed", "int", 0, 65535, 1, False),
    ("answer_ms", "int", 100, 120000, 10000, True),
    ("retry_first_ms", "int", 10, 60000, 1000, True),
    ("retry_cap_ms", "int", 10, 3600000, 60000, True),
    ("keepalive_s", "int", 0, 86400, 30, True),
    ("probing_rate", "int", 0, 65535, 1, False),
    ("wifi_name", "text", 0, 32, "", False),
    ("wifi_password", "password", 8, 63, "", False),
    ("wifi_country", "country", 2, 2, "", False),
)
KEYS = tuple(row[0] for row in SCHEMA)
AT_ONCE = tuple(row[0] for row in SCHEMA if row[5])
SECRET = ("psk_key", "cloud_token", "wifi_name", "wifi_password")


SECURE = "coaps://"


class ConfigError(ValueError):
    """A configuration that is refused. str() is one line that begins with the key."""


def defaults():
    """Return a new dict of every key with its default."""
    return {row[0]: row[4] for row in SCHEMA}


def check(given):
    """Check the keys and values of `given`, a decoded JSON value; any subset of the keys may be there.

    Raises ConfigError, one line: "KEY: must be ..., not ...". Of several faults it names the
    first in the table's order, unknown keys last, so that the answer does not depend on a dict's order.
    """
    if not isinstance(given, dict):
        raise ConfigError("config: must be a JSON object, not " + shown(given))
    for key, kind, low, high, _, _ in SCHEMA:
        if key in given:
            wanted = _CHECKS[kind](given[key], low, high)
            if wanted:
                what = "" if key in SECRET else ", not " + shown(given[key])
                raise ConfigError("%s: must be %s%s" % (key, wanted, what))
    unknown = sorted(str(key) for key in given if key not in KEYS)
    if unknown:
        raise ConfigError("%s: unknown key; keys are %s" % (_printable(unknown[0]), " ".join(KEYS)))


def check_whole(values):
    """Check what keys must say together. values: every key, each of which fits. Raises ConfigError, one line."""
    if values["collector"].startswith(SECURE):
        for key in "psk_identity", "psk_key":
            if not values[key]:
                raise ConfigError(key + ": must be given for a collector at coaps://")
    key = NEEDS.get(values["cloud"])
    if key and values["collector"] and not values[key]:
        raise ConfigError("%s: must be given for the cloud %s" % (key, values["cloud"]))


def key_bytes(text):
    """Return the key that a psk_key says: hex digits, or "text:" and the text that is the key. Raises ValueError."""
    if text.startswith("text:"):
        return text[5:].encode()
    if len(text) % 2 or not all(b in _HEX for b in text.encode()):
        raise ValueError
    return bytes([int(text[i : i + 2], 16) for i in range(0, len(text), 2)])


def shown(value):
    """Return `value` for an error line: short, printable, never more than one line."""
    if value is None or value is True or value is False:
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return '"%s"' % _printable(value)
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    return str(value)[:20]


def _printable(text):
    cut = text[:32]
    # A peer wrote this text, and it goes to a console and into an answer: ASCII only.
    clean = "".join(c if " " <= c <= "~" else "?" for c in cut)
    return clean if cut == text else clean + "..."


_HEX = b"0123456789abcdefABCDEF"
_IN_NAME = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-"

# Each check returns None when the value fits, else what it must be.


def _int(value, low, high):
    # bool is an int in Python, and true is no interval.
    if isinstance(value, int) and value is not True and value is not False and low <= value <= high:
        return None
    return "a whole number from %d to %d" % (low, high)


def _choice(value, low, high):
    return None if isinstance(value, str) and value in low else "one of " + " ".join(low)


def _bool(value, low, high):
    return None if value is True or value is False else "true or false"


def _name(value, low, high):
    # Bytes: MicroPython would keep each character of a str that is looked at, for ever.
    if isinstance(value, str) and low <= len(value) <= high and all(b in _IN_NAME for b in value.encode()):
        return None
    return "%d to %d of the characters A-Z a-z 0-9 . _ -" % (low, high)


def _uri(value, low, high):
    wanted = "coap://HOST or coap://HOST:PORT" + ("" if low else ', or ""')
    if not isinstance(value, str) or not low <= len(value) <= high:
        return wanted
    if value and not (value.startswith("coap://") and _host_port(value)):
        return wanted
    return None


def _server(value, low, high):
    if _uri(value, low, high) is None:
        return None
    if isinstance(value, str) and len(value) <= high and value.startswith(SECURE) and _host_port(value):
        return None
    return 'coaps://HOST or coap://HOST, each with :PORT or without, or ""'


def _key(value, low, high):
    try:
        if value == "" or isinstance(value, str) and low <= len(key_bytes(value)) <= high:
            return None
    except ValueError:
        pass
    return '%d to %d bytes as hex digits, two a byte, or "text:" and the key as text' % (low, high)


def _host_port(uri):
    # Only its shape; whether the name resolves or the address is ours is seen when it is used.
    try:
        return not split(uri)[3]
    except ValueError:
        return False


def _text(value, low, high):
    # Bytes are what counts: a network's name has at most 32 of them (IEEE 802.11, 9.4.2.2).
    try:
        if low <= len(value.encode()) <= high and "\0" not in value:
            return None
    except (AttributeError, ValueError):  # no text; on CPython: half a surrogate pair
        pass
    return "a text of at most %d bytes" % high


def _template(value, low, high):
    # A record's path (clouds/): `#` would end it, and of braces only those around a word mean something.
    if _text(value, 0, high) is None:
        rest = value
        for word in low:
            rest = rest.replace("{%s}" % word, "x")
        if not any(c in "{}#" or c < " " for c in rest) and "." not in rest.split("/") and ".." not in rest.split("/"):
            return None
    return "a path of at most %d bytes, with no words in braces but %s" % (high, " ".join(["{%s}" % w for w in low]))


def _password(value, low, high):
    # IEEE 802.11i: a passphrase is 8 to 63 characters of ASCII.
    if value == "" or isinstance(value, str) and low <= len(value) <= high and all(" " <= c <= "~" for c in value):
        return None
    return '%d to %d characters of ASCII, or ""' % (low, high)


def _country(value, low, high):
    if value == "" or isinstance(value, str) and len(value) == low and all("A" <= c <= "Z" for c in value):
        return None
    return 'two letters A-Z, such as "DE", or ""'


_CHECKS = {
    "int": _int,
    "choice": _choice,
    "bool": _bool,
    "name": _name,
    "uri": _uri,
    "server": _server,
    "key": _key,
    "template": _template,
    "text": _text,
    "password": _password,
    "country": _country,
}
