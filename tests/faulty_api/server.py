"""The HTTP side: paths and verbs, and the faults in between."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Self

from aiohttp import web

from tests.faulty_api.faults import Call, Fault
from tests.faulty_api.kinds import Kind, Target
from tests.faulty_api.reads import Reads
from tests.faulty_api.storage import Raw, Refusal, Storage
from tests.faulty_api.writes import Writes


class FaultyApi:
    """The server; an async context manager.

    Attributes:
        faults: What goes wrong; the first one that concerns a request hits it.
        storage: What is stored; tests may write to it directly.
        calls: How often each verb was asked for; WatchLists count as ``watchlist``, not as ``watch``.
        kubeconfig: How to get there, with a token file that can be rotated.
        bookmark_seconds: A watch gets a bookmark so often.
    """

    def __init__(self, directory: Path, *kinds: Kind) -> None:
        self.faults: list[Fault] = []
        self.storage = Storage()
        self._reads, self._writes = Reads(self.storage), Writes(self.storage)
        self.calls: Counter[str] = Counter()
        self.kubeconfig = directory / "faulty.kubeconfig"
        self.token = directory / "token"
        self.bookmark_seconds = 60.0
        self._kinds = {(kind.group, kind.version, kind.plural): kind for kind in kinds}
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, shutdown_timeout=0.01)

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.token.write_text("first")
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://{host}:{port}"}}],
            "users": [{"name": "u", "user": {"tokenFile": str(self.token)}}],
        }
        self.kubeconfig.write_text(json.dumps(config))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def close_watches(self) -> None:
        """End all watches, as a server does that shuts down."""
        self._reads.close_watches()

    def compact(self) -> None:
        """Forget the history and end all watches, so that those who were away have lost their place."""
        self.storage.compact()
        self.close_watches()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        call = Call(request, self._verb(request))
        self.calls["watchlist" if call.is_watch_list else call.verb] += 1
        fault = next((fault for fault in self.faults if fault.hits(call)), None)
        try:
            if fault is None:
                return await self._serve(call)
            call.hits.append(fault)
            return await fault.answer(call, self._serve)
        except Refusal as refusal:
            headers = {} if refusal.retry_after is None else {"Retry-After": str(refusal.retry_after)}
            return web.json_response(refusal.status, status=refusal.code, headers=headers)

    @staticmethod
    def _verb(request: web.Request) -> str:
        if request.method != "GET":
            return {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(request.method, "delete")
        if request.query.get("watch") in ("1", "true"):
            return "watch"
        parts = request.path.strip("/").split("/")
        rest = parts[2:] if parts[0] == "api" else parts[3:]
        return "get" if len(rest) in (2, 4) and not (rest[0] == "namespaces" and len(rest) == 3) else "list"

    async def _serve(self, call: Call) -> web.StreamResponse:
        target, query = self._target(call.request), call.request.query
        match call.verb:
            case "list":
                return web.json_response(self._reads.page(target, query))
            case "watch":
                return await self._watch(target, call)
            case "get":
                return web.json_response(self.storage.get(target.path))
        return await self._write(target, call)

    async def _write(self, target: Target, call: Call) -> web.StreamResponse:
        query = call.request.query
        body: Raw = json.loads(await call.request.read() or "{}")
        match call.verb:
            case "create":
                return web.json_response(self._writes.create(target, body, query), status=201)
            case "update":
                return web.json_response(self._writes.update(target, body, query))
            case "patch":
                is_apply = call.request.content_type == "application/apply-patch+yaml"
                return web.json_response(self._writes.patch(target, body, query, is_apply=is_apply))
        return web.json_response(self._writes.delete(target, body.get("preconditions") or {}))

    def _target(self, request: web.Request) -> Target:
        parts = request.path.strip("/").split("/")
        group, version, rest = (
            ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
        )
        namespace = ""
        if rest[0] == "namespaces" and len(rest) > 2:
            namespace, rest = rest[1], rest[2:]
        kind = self._kinds.get((group, version, rest[0]))
        if kind is None:
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        name, subresource = (*rest[1:], "", "")[:2]
        return Target(kind, namespace, name, subresource)

    async def _watch(self, target: Target, call: Call) -> web.StreamResponse:
        query = call.request.query
        if call.is_watch_list and query.get("resourceVersionMatch") != "NotOlderThan":
            raise Refusal(422, "Invalid", "sendInitialEvents requires resourceVersionMatch NotOlderThan")
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(call.request)
        lines: AsyncIterator[bytes] = self._reads.lines(
            target, query, with_initial=call.is_watch_list, bookmark_seconds=self.bookmark_seconds
        )
        for fault in call.hits:
            lines = fault.lines(call, lines)
        deadline = float(query.get("timeoutSeconds", 1800))
        try:
            async with asyncio.timeout(deadline), aclosing(lines):  # type: ignore[type-var]  # all are generators
                async for line in lines:
                    await response.write(line)
        except (TimeoutError, ConnectionResetError):
            pass
        return response
