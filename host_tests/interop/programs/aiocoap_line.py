# aiocoap's slipmux transport on a serial line, for aiocoap_client.py and aiocoap_server.py: the line is
# coap://line.dev.alt. Releases of aiocoap up to 0.4.17 do not have it.

from aiocoap.config import (  # pyright: ignore[reportMissingImports]
    SlipmuxDevice,
    SlipmuxParameters,
    TransportParameters,
)


def transports(device: str) -> TransportParameters:
    # not as a dict, from which aiocoap makes a Path, which pyserial refuses
    return TransportParameters(slipmux=SlipmuxParameters(devices={"line": SlipmuxDevice(device=device)}))
