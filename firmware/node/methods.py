"""The methods that the cloud may call of each node: get_info, set_log_level, reboot. More register at app.rpc."""

from .resources import info
from .rpc import Rpc


def methods(app):
    """Return an Rpc that has the node's own methods. app: an App that has its parts."""
    rpc = Rpc(app.log)

    def set_log_level(level):
        """Let pass what is of this level and above it, from now on and after a restart."""
        app.configured(*app.config.change({"log_level": level}))

    def reboot():
        """Start again, once the answer has arrived."""
        rpc.afterwards = app.leave

    rpc.register("get_info", lambda: nested(info(app)))
    rpc.register("set_log_level", set_log_level, ("level", str))
    rpc.register("reboot", reboot)
    return rpc


def nested(pairs):
    """Return a dict of (key, value) pairs, lists of pairs among the values as dicts of their own."""
    return {key: nested(value) if isinstance(value, list) else value for key, value in pairs}
