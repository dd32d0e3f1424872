"""Downloads through the real huggingface_hub, from a small hub on this machine or from none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import constants

from napari_usgseg.core.errors import ModelNotFoundError
from napari_usgseg.models.registry import Model

REPO = "someone/model"
COMMIT = "a" * 40
FILES = {
    "weights.bin": bytes(range(256)) * 40_000,
    "config.json": b'{"model_type": "test"}',
    "pytorch_model.bin": b"never fetched",
}
ONE_FILE = Model("m", "segmenter", "weights.bin", REPO)
FOLDER = replace(ONE_FILE, others=("config.json",))


class SmallHub(BaseHTTPRequestHandler):
    """The five answers of the hub's protocol that a download needs."""

    requests: list[str]

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def _answer(self, with_body: bool) -> None:
        self.requests.append(f"{self.command} {self.path}")
        headers = {"X-Repo-Commit": COMMIT}
        if f"/api/models/{REPO}/tree/" in self.path:
            tree = [
                {"type": "file", "path": n, "size": len(d), "oid": _etag(d)}
                for n, d in FILES.items()
            ]
            body = json.dumps(tree).encode()
        elif self.path.startswith(f"/api/models/{REPO}"):
            body = json.dumps({"id": REPO, "sha": COMMIT, "siblings": []}).encode()
        elif self.path.startswith(f"/{REPO}/resolve/"):
            body = FILES.get(self.path.rsplit("/", 1)[1], b"")
            if not body:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            headers["ETag"] = f'"{_etag(body)}"'
        else:
            body = b""
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def _etag(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path


@pytest.fixture
def requests(cache, monkeypatch) -> Iterator[list[str]]:
    """What the small hub was asked, while it stands in for the real one."""
    handler = type("Handler", (SmallHub,), {"requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield handler.requests
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_file_is_fetched_once_and_then_comes_from_the_cache(requests):
    assert not ONE_FILE.present
    path = ONE_FILE.fetch()
    assert path.read_bytes() == FILES["weights.bin"]
    asked = len(requests)
    assert ONE_FILE.fetch() == path == ONE_FILE.path
    assert len(requests) == asked


def test_a_folder_is_fetched_without_the_files_that_nobody_needs(requests):
    path = FOLDER.fetch()
    assert {file.name for file in path.parent.iterdir()} == {"weights.bin", "config.json"}
    assert FOLDER.path == path
    assert replace(FOLDER, others=("config.json", "tokenizer.json")).path is None


def test_the_cache_knows_the_checksum_of_a_large_file(requests):
    path = ONE_FILE.fetch()
    assert ONE_FILE.sha256 == _etag(FILES["weights.bin"])
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)  # a copy, as on a system without links
    assert ONE_FILE.sha256 is None
    assert ONE_FILE.present


def test_a_file_that_the_repository_lacks_is_an_error_that_names_it(requests):
    with pytest.raises(ModelNotFoundError, match=r"m is not on.*someone/model.*absent\.bin"):
        replace(ONE_FILE, weights="absent.bin").fetch()


@pytest.mark.parametrize("offline", [True, False])
def test_without_network_the_message_names_model_cause_and_cure_at_once(
    cache, monkeypatch, offline
):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    cause = "HF_HUB_OFFLINE is set" if offline else r"no connection to 127\.0\.0\.1"
    cure = "usgseg models download sam2.* or pass the path of a checkpoint"
    for model in (ONE_FILE, FOLDER):
        with pytest.raises(ModelNotFoundError, match=f"sam2 is not on this.*{cause}.*{cure}"):
            replace(model, name="sam2").fetch()
