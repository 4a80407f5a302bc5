"""`hello` and `echo`, with which a device, or who looks for a fault, sees that it is heard: 2.03, as Golioth."""

from typing import Any

import coaplet
from coaplet_tools.collector.etag import etag
from coaplet_tools.collector.golioth import identity_of, say, serve


class Greetings:
    """Serves `hello` and `echo` on a node."""

    def __init__(self, node: Any) -> None:
        serve(node, "hello", _hello, rt="hello")
        serve(node, "echo", _echo, "POST", rt="echo")


def _hello(request: Any, response: Any) -> None:
    # Golioth's identities are DEVICE@PROJECT
    say(response, coaplet.VALID, f"Hello {identity_of(request).partition('@')[0]}")


def _echo(request: Any, response: Any) -> None:
    identity_of(request)
    payload = request.payload
    response.code = coaplet.VALID
    if payload:
        response.option(coaplet.ETAG, etag(payload))
        response.payload(payload, ct=request.content_format)
