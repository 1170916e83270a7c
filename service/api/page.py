"""What a browser gets: the page, its files, and two readers of the interface. All of it comes from
this server.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter, FastAPI
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from affect.catalogue import CATALOGUE
from service.api.state import ApiRequest
from service.api.status_routes import as_json

FOLDER = Path(__file__).parents[1] / "page"
# swagger-ui and redoc as they come from npm, in a wheel: not three megabytes in this repository.
READERS = ("fastapi_offline", "static")
FRESH = {"Cache-Control": "no-cache"}  # asked again each time, answered by 304 while it is the same
QUIET = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def page_policy(picture_origins: Sequence[str]) -> str:
    """The page's Content-Security-Policy: nothing from elsewhere but pictures of hosts that the
    operator has named.
    """
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "img-src 'self' data: blob:",
            # data: turns a drawn picture back into a file
            " ".join(("connect-src 'self' data:", *picture_origins)),
            "require-trusted-types-for 'script'",
            "trusted-types lit-html",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


# Both readers write style elements, and Redoc searches in a worker that it makes of a blob.
READER_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' "
    "data:; "
    "connect-src 'self'; worker-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors "
    "'none'"
)


class _Files(StaticFiles):
    """Files with the headers of a page."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """See StaticFiles."""
        response = super().file_response(*args, **kwargs)
        response.headers.update(FRESH | QUIET)
        return response

    async def get_response(self, path: str, scope: Scope) -> Response:
        """See StaticFiles. Documents are pages of their own, with policies, and not served from
        here.
        """
        return await super().get_response("" if path.endswith(".html") else path, scope)


router = APIRouter(include_in_schema=False)


def add_page(app: FastAPI) -> None:
    """The page's routes and files."""
    app.include_router(router)
    app.mount("/page/readers", _Files(packages=[READERS]))
    app.mount("/page", _Files(directory=FOLDER))


@router.get("/")
async def page(request: ApiRequest) -> Response:
    """The three operations in a browser."""
    return _document("index.html", page_policy(request.state["settings"].page_picture_origins))


@router.get("/docs")
async def swagger() -> Response:
    """The interface, to try."""
    return _document("swagger.html", READER_POLICY)


@router.get("/redoc")
async def redoc() -> Response:
    """The interface, to read."""
    return _document("redoc.html", READER_POLICY)


@router.get("/page/facts.json")
async def facts(request: ApiRequest) -> Response:
    """What the page must know of the catalogue and the settings."""
    units = {
        unit.code: {"name": unit.name, "muscles": unit.muscles, "region": unit.region}
        for unit in CATALOGUE.values()
    }
    origins = request.state["settings"].page_picture_origins
    return as_json({"units": units, "picture_origins": origins})


def _document(name: str, policy: str) -> Response:
    headers = QUIET | FRESH | {"Content-Security-Policy": policy}
    return FileResponse(FOLDER / name, headers=headers)
