"""All that the collector is to a device that has proven its identity, beside its records: state, calls, settings,
updates. One object that serve.py opens, closes, and has look for news."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from coaplet_tools.collector.golioth import Watchers
from coaplet_tools.collector.greetings import Greetings
from coaplet_tools.collector.kept import CALLS, DESIRED, STATE
from coaplet_tools.collector.rpc import Calls
from coaplet_tools.collector.schema import SETTINGS
from coaplet_tools.collector.settings import Settings
from coaplet_tools.collector.state import State
from coaplet_tools.collector.store import Store
from coaplet_tools.collector.updates import Updates


class Services:
    """Registers them on a node. connected(identity): tells whether a device has a session."""

    def __init__(self, node: Any, database: Path, connected: Callable[[str], bool]) -> None:
        self._store = Store(database)
        watchers = Watchers(node)
        self._state = State(node, self._store, watchers)
        self._calls = Calls(node, self._store, watchers, connected)
        self._settings = Settings(node, self._store, watchers)
        self._updates = Updates(node, self._store, watchers, database)
        Greetings(node)

    async def open(self) -> None:
        """Raises CollectorError."""
        await self._store.open()
        self._calls.open()

    async def close(self) -> None:
        await self._store.close()

    async def look(self) -> None:
        """Tell devices of what commands have changed, and of calls; to be called ten times a second."""
        for news in self._store.news():
            if news.service == STATE:
                self._state.tell(news.identity, [name for name in news.path.split("/") if name])
            elif news.service == SETTINGS:
                self._settings.tell(news.identity)
            elif news.service == DESIRED:
                self._updates.tell(news.identity)
            elif news.service == CALLS:
                self._calls.want(news.identity)
        await self._calls.go_on()
