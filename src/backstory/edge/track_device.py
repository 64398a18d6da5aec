"""Devices in requests of the Track APIs turned into facts.

v1 names the token ``id``, v2 ``token``. Clients differ: Go sends ``last_used`` as text and ``attributes`` null, Python
and Ruby let further keys stand beside the token; those are attributes. Source: ``api-surface.md`` sections 4 and 5.
"""

from urllib.parse import unquote_to_bytes

from backstory.core.condition import Json
from backstory.core.error import RequestError
from backstory.core.fact import DeleteDevice, Identifier, PutDevice
from backstory.core.limit import DEVICE_ATTRIBUTES, DEVICE_TOKEN_BYTES
from backstory.edge.value import Body, check_attributes, read_time, shown, stored

PLATFORMS = ("ios", "android")


def put_device_fact(
    person: Identifier, device: Json, *, token_key: str = "id", time_us: int | None = None
) -> PutDevice:
    """A device made or changed. ``device`` is what stands under that key; ``token_key`` is ``id`` or ``token``."""
    if not isinstance(device, dict):
        raise RequestError(f"device must be an object with {token_key} and platform", path="$.device")
    rest = dict(device)
    token = read_token(rest.pop(token_key, None), token_key)
    platform = _platform(rest.pop("platform", None))
    last_used = rest.pop("last_used", None)
    last_used_us, _ = read_time(None if last_used == "" else last_used, "device.last_used")
    return PutDevice(
        person=person,
        token=token,
        platform=platform,
        last_used_us=last_used_us,
        attributes=_attributes(rest.pop("attributes", None), rest),
        time_us=time_us,
    )


def delete_device_fact(person: Identifier, device: Json) -> DeleteDevice:
    """``delete_device`` of v2: ``{"token": …}``."""
    if not isinstance(device, dict):
        raise RequestError("device must be an object with its token", path="$.device")
    return DeleteDevice(person=person, token=read_token(device.get("token"), "token"))


def path_token(raw: bytes) -> str:
    """The token a raw path segment names. Some clients encode it twice (async-customerio); no token holds a ``%``."""
    plain = unquote_to_bytes(raw)
    if b"%" in plain:
        plain = unquote_to_bytes(plain)
    try:
        return read_token(plain.decode(), "id")
    except UnicodeDecodeError:
        raise RequestError("the device in the path is not UTF-8 text: percent-encode its UTF-8 bytes") from None


def read_token(value: Json, key: str) -> str:
    """The token of a device."""
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str) or not value:
        raise RequestError(
            f"device {key} must be a string that is not empty, not {shown(value)}", path=f"$.device.{key}"
        )
    if "\0" in value:
        raise RequestError(f"device {key} holds a NUL character: leave it out", path=f"$.device.{key}")
    DEVICE_TOKEN_BYTES.check(len(value.encode()), path=f"$.device.{key}")
    return value


def _platform(value: Json) -> str:
    platform = value.lower() if isinstance(value, str) else value
    if platform not in PLATFORMS:
        raise RequestError(f"device platform must be ios or android, not {shown(value)}", path="$.device.platform")
    return str(platform)


def _attributes(given: Json, beside: Body) -> bytes:
    if given is not None and not isinstance(given, dict):
        raise RequestError("device attributes must be an object", path="$.device.attributes")
    attributes = {**beside, **(given or {})}
    DEVICE_ATTRIBUTES.check(len(attributes), path="$.device.attributes")
    if "" in attributes:
        raise RequestError("attribute name cannot be blank", path="$.device.attributes")
    text = stored(attributes)
    check_attributes(attributes, text)
    return text
