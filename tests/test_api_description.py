"""The API is described, and no request that its description allows is a fault of the server."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distill.training.execution import run_training
from distill.training.request import TrainingRequest
from support.runs import make_runs_quick
from support.sounds import write_collection
from support.web_server import Web, web_server

SETTINGS = {"codebook_size": 16, "codebook_dim": 8, "batch_size": 4, "chunk_duration_s": 0.5, "val_fraction": 0.3}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A server with a run, its model and a collection."""
    home = tmp_path_factory.mktemp("web")
    places = {"output_dir": home / "runs" / "tones", "models_dir": home / "models", "model_name": "tones"}
    with pytest.MonkeyPatch.context() as patch:
        make_runs_quick(patch)
        short = SETTINGS | {"with_prior": False, "max_epochs": 1}
        run_training(TrainingRequest.for_folder(write_collection(home / "kit"), **places, **short))
    with web_server(home) as web:
        web.opened(home / "kit")
        yield web


def test_every_route_of_the_api_is_described(web: Web) -> None:
    described = web.get("/api/openapi.json")
    calls = {(method.upper(), path) for path, item in described["paths"].items() for method in item}
    sources = Path("src/distill/web").glob("api_*.py")
    routes = [found for source in sources for found in re.findall(r"^@router\.(\w+)\(", source.read_text(), re.M)]
    assert len([path for _, path in calls if path.startswith("/api/")]) == len(routes) + 1  # and /api/about
    assert all("summary" in operation for item in described["paths"].values() for operation in item.values())


@pytest.mark.soak
def test_no_request_that_is_described_is_a_fault_of_the_server(
    web: Web, tmp_path: Path, counted: Callable[[str, int], None]
) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    schema = schemathesis.openapi.from_dict(web.get("/api/openapi.json"))
    known = [item["id"] for kind in ("runs", "models", "collections") for item in web.get(f"/api/{kind}")]
    operations = [found.ok() for found in schema.get_all_operations()]
    asked = sum(asked_of(web, operation, known, tmp_path) for operation in operations if "/api/" in operation.path)
    counted("requests that the description of the API allows", asked)


def asked_of(web: Web, operation: Any, known: list[str], folder: Path) -> int:
    """Ask for an operation in all ways that its description allows, of things that there are and others; how often."""
    count = 0

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy(), key=st.sampled_from([*known, None]))
    def ask(case: Any, key: str | None) -> None:
        nonlocal count
        count += 1
        named = dict(case.path_parameters or {}) | ({"key": key} if key else {})
        url = operation.path.format(**{name: str(value).replace("/", "") or "x" for name, value in named.items()})
        body = case.body
        if isinstance(body, dict) and isinstance(body.get("path"), str):  # no folder of this machine
            body = body | {"path": str(folder / re.sub(r"[/\0]", "", body["path"]))}
        sent = {"json": body} if isinstance(body, dict | list) else {"content": b"not a sound"}
        with web.client.stream(operation.method.upper(), url, params=case.query or {}, **sent) as answer:
            assert answer.status_code < 500, (operation.method, url, case.query, body)

    ask()
    return count
