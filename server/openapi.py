"""A tidy description of the API, for generated clients."""

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from xoron_core.contract.api import Problem

PROBLEMS: dict[int | str, dict[str, Any]] = {"4XX": {"model": Problem, "description": "What is wrong, and where."}}


def operation_id(route: APIRoute) -> str:
    """The endpoint's name."""
    return route.name


def install(app: FastAPI) -> None:
    """Describe problems with the media type that they are sent with."""
    built: dict[str, Any] = {}

    def describe() -> dict[str, Any]:
        if not built:
            built.update(get_openapi(title=app.title, version=app.version, routes=app.routes))
            for operations in built["paths"].values():
                for operation in operations.values():
                    content = operation["responses"].get("4XX", {}).get("content", {})
                    if "application/json" in content:
                        content["application/problem+json"] = content.pop("application/json")
        return built

    app.openapi = describe  # type: ignore[method-assign]  # FastAPI's documented way to change its description
