"""The write APIs over a fake workspace, for tests: which request becomes which facts, and what is answered."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from backstory.core.fact import decode, encode
from backstory.edge.bridge import Bridge
from backstory.edge.pipeline import PipelinesApi, is_pipelines
from backstory.edge.track import TrackApi
from backstory.edge.track_route import raw_path
from tests.unit.fake_workspace import Answer, AsgiClient, FakeWorkspace

TRACK = "Basic dHJhY2s6a2V5"
WRITE_KEY = "Basic d3JpdGU6"
KEYS = {
    TRACK.encode(): "default",
    WRITE_KEY.encode(): "default",
    b"Bearer write": "default",
    b"Bearer sk_eu_1": "default",
}


class WriteClient:
    """Calls either API by its path, with the right credentials unless told otherwise."""

    def __init__(self, client: AsgiClient, workspace: FakeWorkspace) -> None:
        self._client = client
        self.workspace = workspace

    def call(self, method: str, path: str, body: Any = b"", **headers: str) -> Answer:
        """One request; facts of earlier ones are forgotten. All facts made must survive the journal."""
        self.workspace.facts.clear()
        key = WRITE_KEY if is_pipelines(path.encode()) else TRACK
        headers.setdefault("authorization", key)
        headers = {name: value for name, value in headers.items() if value}
        answer = self._client.call(method, path, body, **headers)
        facts = self.workspace.facts
        assert decode(encode(facts)) == facts
        return answer

    @property
    def facts(self) -> list[Any]:
        """What the last request became."""
        return list(self.workspace.facts)

    @property
    def fact(self) -> Any:
        """The only fact it became."""
        return self.workspace.fact


@contextmanager
def write_client() -> Iterator[WriteClient]:
    """Track and Pipelines over one fake workspace."""
    workspace = FakeWorkspace()

    def make() -> ASGIApp:
        bridge = Bridge(asyncio.get_running_loop())
        track = TrackApi({"default": workspace}, KEYS.get, bridge, wait_s=0)
        pipelines = PipelinesApi({"default": workspace}, KEYS.get, bridge, wait_s=0)

        async def choose(scope: Scope, receive: Receive, send: Send) -> None:
            await (pipelines if is_pipelines(raw_path(scope)) else track)(scope, receive, send)

        return choose

    with AsgiClient(make_app=make) as client:
        yield WriteClient(client, workspace)
