"""The application: routes, the guard in front of them, errors as sentences, and the page itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from distill import __version__
from distill.audio.suffixes import AUDIO_SUFFIXES
from distill.errors import DistillError, StorageError
from distill.paths import printable
from distill.training.config import LEVEL_NAMES
from distill.web import api_collections, api_edit, api_listen, api_make, api_models, api_runs, api_tray
from distill.web.advice import LEVELS
from distill.web.families import family_list
from distill.web.guard import Guard
from distill.web.messages import in_page_words, what_is_wrong
from distill.web.state import AppState

STATIC = Path(__file__).parent / "static"

_MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}

_DEFAULTS = {"commitment_weight": 0.25, "seed": 0, "minutes": 5}


def create_app(state: AppState, token: str, known_host: Callable[[str], bool], cookie: str = "distill") -> FastAPI:
    """Create the web app around `state`; it admits requests that have `token`, at a host that `known_host` accepts."""
    # The description alone: FastAPI's pages that show it load scripts from other hosts.
    app = FastAPI(title="distill", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json")
    app.state.state = state
    app.add_middleware(Guard, token=token, known_host=known_host, cookie=cookie)
    app.add_exception_handler(DistillError, _distill_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(Exception, _unexpected_error)
    for part in (api_collections, api_runs, api_models, api_listen, api_make, api_tray, api_edit):
        app.include_router(part.router)
    app.add_api_route("/api/about", _about(state))
    _add_page(app)
    return app


def _add_page(app: FastAPI) -> None:
    """Serve the files of the page from memory, which is faster for thirty small ones.

    Only files that were there at the start are served, by exact name: no path is ever made from a request.
    """
    contents = {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in STATIC.rglob("*") if path.is_file()}

    async def page() -> Response:
        return await page_file("index.html")

    async def page_file(name: str) -> Response:
        if name not in contents:
            raise HTTPException(404, "there is no such page")
        return Response(contents[name], media_type=_MEDIA_TYPES.get(Path(name).suffix, "text/plain"))

    app.add_api_route("/", page)
    app.add_api_route("/static/{name:path}", page_file)


def _about(state: AppState) -> Callable[[], dict[str, Any]]:
    def about() -> dict[str, Any]:
        return {
            "version": __version__,
            "models_dir": printable(state.library.folder),
            "level_names": LEVEL_NAMES,
            "families": family_list(),
            "levels": {str(count): sentence for count, sentence in LEVELS.items()},
            "audio_suffixes": sorted(AUDIO_SUFFIXES),
            "defaults": _DEFAULTS,
        }

    return about


def _distill_error(request: Request, error: Exception) -> JSONResponse:
    del request
    return _error_response(507 if isinstance(error, StorageError) else 422, in_page_words(error))


def _http_error(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, HTTPException)
    return _error_response(error.status_code, error.detail)


def _invalid_request(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, RequestValidationError)
    return _error_response(422, what_is_wrong(error.errors()[0]))


def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    del request
    return _error_response(500, in_page_words(error))


def _error_response(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)
