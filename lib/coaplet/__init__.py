# coaplet: CoAP client and server. Each name is imported when it is first asked for, so that a device loads, and a
# build may contain, only what it uses. See README.md.

_WHERE = {"Node": "aio", "Loop": "poll", "Udp": "udp", "Endpoint": "endpoint", "CLASS1": "driver", "code_text": "codes"}


def __getattr__(name):
    if name not in _WHERE and name == name.lower():
        try:
            return __import__("coaplet." + name, None, None, (name,))
        except ImportError:
            raise AttributeError(name)
    module = _WHERE.get(name, "codes")
    value = getattr(__import__("coaplet." + module, None, None, (name,)), name)
    globals()[name] = value
    return value
