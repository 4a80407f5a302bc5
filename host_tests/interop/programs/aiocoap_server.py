# aiocoap as a server: aiocoap_server.py HOST PORT, with resources of the names and answers that server.py has.

import asyncio
import sys

import aiocoap
import aiocoap.error
from aiocoap import Message, resource

LARGE = "".join(f"{i:04d}-" for i in range(200)).encode()


class Text(resource.Resource):
    async def render_get(self, request: Message) -> Message:
        return Message(payload="héllo wörld".encode(), content_format=0, max_age=70000, etag=b"\x01\xfe")


class Large(resource.Resource):
    async def render_get(self, request: Message) -> Message:
        return Message(payload=LARGE, content_format=0)


class Echo(resource.Resource):
    async def render_post(self, request: Message) -> Message:
        return Message(code=aiocoap.CHANGED, payload=request.payload, content_format=request.opt.content_format)


class Inspect(resource.Resource, resource.PathCapable):
    async def render_get(self, request: Message) -> Message:
        return Message(payload="\n".join((*request.opt.uri_path, *request.opt.uri_query)).encode(), content_format=0)


class Slow(resource.Resource):
    async def render_get(self, request: Message) -> Message:
        await asyncio.sleep(0.3)  # beyond EMPTY_ACK_DELAY
        return Message(payload=b"slow, but here", content_format=0)


class Bulk(resource.Resource):
    async def render_get(self, request: Message) -> Message:
        return Message(payload=LARGE * 3, content_format=0)


class Clock(resource.ObservableResource):
    """Its state is a number, another one each 100 ms."""

    def __init__(self) -> None:
        super().__init__()
        self._n = 0
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(0.1)
            self._n += 1
            self.updated_state()

    async def render_get(self, request: Message) -> Message:
        return Message(payload=str(self._n).encode(), content_format=0, max_age=1)


class Store(resource.Resource, resource.PathCapable):
    def __init__(self) -> None:
        super().__init__()
        self._stored: dict[tuple[str, ...], bytes] = {}

    async def render_put(self, request: Message) -> Message:
        code = aiocoap.CHANGED if request.opt.uri_path in self._stored else aiocoap.CREATED
        self._stored[request.opt.uri_path] = request.payload
        return Message(code=code)

    async def render_get(self, request: Message) -> Message:
        if request.opt.uri_path not in self._stored:
            raise aiocoap.error.NotFound("not stored: store/" + "/".join(request.opt.uri_path))
        return Message(payload=self._stored[request.opt.uri_path])

    async def render_delete(self, request: Message) -> Message:
        del self._stored[request.opt.uri_path]
        return Message(code=aiocoap.DELETED)


async def main(host: str, port: int) -> None:
    site = resource.Site()
    site.add_resource([".well-known", "core"], resource.WKCResource(site.get_resources_as_linkheader))
    for name in ("text", "large", "echo", "inspect", "slow", "store", "bulk", "clock"):
        site.add_resource([name], globals()[name.capitalize()]())
    await aiocoap.Context.create_server_context(site, bind=(host, port))
    await asyncio.get_running_loop().create_future()


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
