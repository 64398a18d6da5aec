"""Webhooks leave here: one POST for each delivery, with an ``Idempotency-Key`` that makes a repetition known.

Unlike mail, a call whose answer was lost is tried again: the key makes that safe. Redirects are not followed, no
proxy and no credentials are taken from the environment, and what the receiver answers is not read.
"""

import asyncio

import httpx

from backstory import __version__
from backstory.core.address import AddressError, host_of, read_url
from backstory.core.message import Delivery, Webhook
from backstory.engine.outbox import Answer, Permanent, Sent, Transient

TIMEOUT_S = 4.0  # the original's (semantics section 9)
# Refusals that say "later", beside every 5xx.
_LATER = frozenset({408, 425, 429})


class WebhookSender:
    """Calls the URLs of webhook steps."""

    def __init__(self, *, timeout_s: float = TIMEOUT_S, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._timeout_s = timeout_s
        self._client = httpx.AsyncClient(
            timeout=timeout_s, follow_redirects=False, trust_env=False, transport=transport, headers=_HEADERS
        )

    async def send(self, delivery: Delivery) -> Answer:
        """Make one call."""
        webhook = delivery.content
        if not isinstance(webhook, Webhook):
            return Permanent("not a webhook")
        try:
            # Only the host may stand in a reason: the rest of a URL often holds a key.
            host = host_of(read_url(webhook.url))
        except AddressError:
            return Permanent("the URL cannot be called: it is not valid")
        try:
            async with asyncio.timeout(self._timeout_s):
                status = await self._post(delivery.delivery_id, webhook)
        except TimeoutError:
            return Transient(f"{host} did not answer within {self._timeout_s:g} seconds")
        except httpx.InvalidURL:
            return Permanent(f"{host} cannot be called: the URL is not valid")
        except httpx.HTTPError as error:
            return Transient(f"{host} cannot be reached: {type(error).__name__}")
        if 200 <= status < 300:
            return Sent()
        reason = f"{host} answered {status}"
        if status >= 500 or status in _LATER:
            return Transient(reason)
        return Permanent(f"{reason}: redirects are not followed" if 300 <= status < 400 else reason)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def _post(self, delivery_id: str, webhook: Webhook) -> int:
        headers = {"Content-Type": webhook.content_type, "Idempotency-Key": delivery_id}
        request = self._client.build_request("POST", webhook.url, content=webhook.body.encode(), headers=headers)
        response = await self._client.send(request, stream=True)
        await response.aclose()
        return response.status_code


_HEADERS = {"User-Agent": f"backstory/{__version__}", "Accept": "*/*"}
