"""aiocoap's programs over DTLS (tinydtls within): aiocoap_dtls.py SETTINGS PROGRAM ARGUMENT...

PROGRAM is programs/aiocoap_client.py or programs/aiocoap_server.py, as it is; this gives it credentials and picks the
transport. A server listens one port above the one it is told (aiocoap counts from CoAP's port to that of coaps).
SETTINGS, in JSON: identity, key (hex). Started by build/bin/python-dtlssocket, a Python that has DTLSSocket.
"""

import json
import os
import runpy
import sys
from typing import Any

import aiocoap  # pyright: ignore[reportMissingImports]

settings = json.loads(sys.argv[1])
credentials = {
    "dtls": {"psk": {"hex": settings["key"]}, "client-identity": {"ascii": settings["identity"]}},
}
create_client, create_server = aiocoap.Context.create_client_context, aiocoap.Context.create_server_context


async def create_client_context(*arguments: Any, **more: Any) -> aiocoap.Context:
    context = await create_client(*arguments, **more)
    context.client_credentials.load_from_dict({"coaps://*": credentials})
    return context


async def create_server_context(*arguments: Any, **more: Any) -> aiocoap.Context:
    return await create_server(*arguments, server_credentials=_server_credentials(), **more)


def _server_credentials() -> Any:
    from aiocoap.credentials import CredentialsMap

    known = CredentialsMap()
    known.load_from_dict({":node": credentials})
    return known


os.environ["AIOCOAP_CLIENT_TRANSPORT"] = "tinydtls"
os.environ["AIOCOAP_SERVER_TRANSPORT"] = "tinydtls_server"
setattr(aiocoap.Context, "create_client_context", create_client_context)  # noqa: B010
setattr(aiocoap.Context, "create_server_context", create_server_context)  # noqa: B010
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
