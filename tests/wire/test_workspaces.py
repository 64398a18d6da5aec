"""Several workspaces in one server: each its own folder and keys, no leak between them; keys over the API."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.wire.conftest import APP_KEY, SITE_ID, TRACK_KEY, Server, command, environment_of, serving, settings_of

pytestmark = pytest.mark.wire


def cli(data: Path, *words: str, code: int = 0) -> Any:
    """What a command prints as JSON; its error text when it is to fail."""
    done = subprocess.run(
        command(*words, "--data", str(data), "--json"), env=environment_of(), capture_output=True, text=True, timeout=60
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if code == 0 else done.stderr


def app(server: Server, key: str) -> httpx.Client:
    return httpx.Client(base_url=server.url, headers={"Authorization": f"Bearer {key}"})


def put(server: Server, pair: tuple[str, str], person: str) -> int:
    path = f"/api/v1/customers/{person}"
    return httpx.put(server.url + path, json={"n": 1}, auth=pair, headers={"Backstory-Wait": "applied"}).status_code


def test_two_workspaces_share_nothing(tmp_path: Path) -> None:
    """Made by a command while the server runs; each key sees and writes its own workspace, after a restart too."""
    with serving(settings_of(tmp_path)) as server:
        made = cli(tmp_path, "workspaces", "create", "staging")["workspace"]
        keys = made["keys"]
        staging = (keys["site_id"], keys["track_key"])
        assert put(server, (SITE_ID, TRACK_KEY), "main") == 200
        assert put(server, staging, "other") == 200
        assert put(server, (SITE_ID, keys["track_key"]), "main") == 401
        assert put(server, (keys["site_id"], TRACK_KEY), "main") == 401
        assert httpx.post(
            f"{server.url}/v1/track", json={"userId": "cdp", "event": "seen"}, auth=(keys["cdp_key"], ""),
            headers={"Backstory-Wait": "applied"},
        ).is_success  # fmt: skip
        check(server, keys["app_key"])
        assert [one["name"] for one in cli(tmp_path, "workspaces", "list")["workspaces"]] == ["default", "staging"]
        assert "there is a workspace 'staging' already" in cli(tmp_path, "workspaces", "create", "staging", code=1)
        assert "small letters" in cli(tmp_path, "workspaces", "create", "../up", code=1)
        made = cli(tmp_path, "segments", "list", "--workspace", "nowhere", code=1)
        assert "there is no workspace 'nowhere'" in made
    assert (tmp_path / "workspaces" / "staging" / "state.db").exists()
    with serving(settings_of(tmp_path)) as server:
        check(server, keys["app_key"])


def check(server: Server, key: str) -> None:
    """Each App key shows its own people and its own workspace."""
    for opened, there, missing, name in ((APP_KEY, "main", "other", "default"), (key, "other", "main", "staging")):
        with app(server, opened) as client:
            assert client.get(f"/v1/customers/{there}/attributes").status_code == 200
            assert client.get(f"/v1/customers/{missing}/attributes").status_code == 404
            (one,) = client.get("/v1/workspaces").json()["workspaces"]
            assert one["name"] == name
            seen = {entry["customer_id"] for entry in client.get("/v1/activities").json()["activities"]}
            assert seen == ({"main"} if name == "default" else {"other", "cdp"})
            named = client.get("/v1/workspaces", headers={"Backstory-Workspace": "staging"}).json()
            assert named["workspaces"] == [one]


def test_commands_without_a_server(tmp_path: Path) -> None:
    """A workspace can be made, listed and worked on with no server running."""
    cli(tmp_path, "workspaces", "create", "staging")
    key = cli(tmp_path, "keys", "create", "app", "--workspace", "staging")["key"]
    assert key["kind"] == "app"
    with serving(settings_of(tmp_path)) as server, app(server, key["key"]) as client:
        assert client.get("/v1/workspaces").json()["workspaces"][0]["name"] == "staging"


def test_keys_over_the_api(tmp_path: Path) -> None:
    """An App key makes, lists and revokes keys of its workspace; each change holds at once; hashes only are kept."""
    with serving(settings_of(tmp_path)) as server:
        before = server.app.get("/v1/keys").json()["keys"]
        made = server.app.post("/v1/keys", json={"kind": "app"}).json()["key"]
        with app(server, made["key"]) as client:
            assert client.get("/v1/segments").status_code == 200
            assert client.post("/v1/keys", json={"kind": "nothing"}).status_code == 400
            track = client.post("/v1/keys", json={"kind": "track"}).json()["key"]
            assert put(server, (track["site_id"], track["key"]), "ann") == 200
            assert len(client.get("/v1/keys").json()["keys"]) == len(before) + 2
            assert client.delete(f"/v1/keys/{track['id']}").status_code == 204
            assert put(server, (track["site_id"], track["key"]), "ann") == 401
            assert client.delete("/v1/keys/999").status_code == 404
            assert server.app.delete(f"/v1/keys/{made['id']}").status_code == 204
            assert client.get("/v1/segments").status_code == 401
    for path in (tmp_path / "workspaces").rglob("credentials.json"):
        assert made["key"] not in path.read_text()


def test_a_key_that_calls_too_often(tmp_path: Path) -> None:
    """With a rate set, one key is 429 with Retry-After while another is not, whichever way the key is written."""
    with serving(settings_of(tmp_path, rate_per_s=5)) as server, httpx.Client(base_url=server.url) as client:
        answers = [
            client.get("/api/v1/accounts/region", auth=(SITE_ID, TRACK_KEY), headers={"n": str(number)})
            for number in range(12)
        ]
        statuses = [answer.status_code for answer in answers]
        assert statuses[:5] == [200] * 5
        refused = next(answer for answer in answers if answer.status_code == 429)
        assert refused.headers["retry-after"] == "1"
        assert server.app.get("/v1/segments").status_code == 200
