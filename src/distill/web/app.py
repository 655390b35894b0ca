"""The application: routes, the guard before them, errors as sentences, the page itself."""

from collections.abc import Callable
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from distill import __version__
from distill.audio.suffixes import AUDIO_SUFFIXES
from distill.errors import DistillError, StorageError
from distill.paths import shown
from distill.training.config import LEVEL_NAMES
from distill.training.metrics import OVERFITTING_GAP
from distill.web import api_collections, api_listen, api_models, api_runs
from distill.web.advice import LEVELS
from distill.web.guard import Guard
from distill.web.state import Studio

STATIC = files("distill.web") / "static"

_DEFAULTS = {"commitment_weight": 0.25, "seed": 0, "minutes": 5}


def create_app(studio: Studio, token: str, known_host: Callable[[str], bool], cookie: str = "distill") -> FastAPI:
    """The whole web app around `studio`; only who has `token` is let in, at a host that `known_host` knows."""
    app = FastAPI(title="distill", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    app.state.studio = studio
    app.add_middleware(Guard, token=token, known_host=known_host, cookie=cookie)
    app.add_exception_handler(DistillError, _our_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _wrong_request)
    app.add_exception_handler(Exception, _fault)
    for part in (api_collections, api_runs, api_models, api_listen):
        app.include_router(part.router)
    app.add_api_route("/api/about", _about(studio))
    app.add_api_route("/", lambda: FileResponse(str(STATIC / "index.html")), include_in_schema=False)
    app.mount("/static", StaticFiles(packages=[("distill.web", "static")]))
    return app


def _about(studio: Studio) -> Callable[[], dict[str, Any]]:
    def about() -> dict[str, Any]:
        return {
            "version": __version__,
            "models_dir": shown(studio.library.folder),
            "level_names": LEVEL_NAMES,
            "levels": {str(count): sentence for count, sentence in LEVELS.items()},
            "audio_suffixes": sorted(AUDIO_SUFFIXES),
            "defaults": _DEFAULTS,
            "overfitting_gap": OVERFITTING_GAP,
        }

    return about


def _our_error(request: Request, error: Exception) -> JSONResponse:
    del request
    return _told(507 if isinstance(error, StorageError) else 422, str(error))


def _http_error(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, HTTPException)
    return _told(error.status_code, error.detail)


def _wrong_request(request: Request, error: Exception) -> JSONResponse:
    del request
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    return _told(422, f"{'.'.join(map(str, first['loc'][1:]))}: {first['msg']}")


def _fault(request: Request, error: Exception) -> JSONResponse:
    del request
    return _told(500, f"unexpected {type(error).__name__}: {error} (a fault in distill)")


def _told(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"error": sentence}, status)
