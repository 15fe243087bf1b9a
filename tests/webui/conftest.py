"""Pages asked by an administrator, by lesser roles and by a stranger."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from pxeboot.adapters.container import Services
from pxeboot.services import auth
from pxeboot.services.auth import Role
from tests.api.v1.conftest import app, ask, room, services

__all__ = ["app", "ask", "room", "services"]
PASSWORD = "correct horse battery"


@pytest.fixture
def stranger(app: FastAPI) -> TestClient:
    return TestClient(app, follow_redirects=False, raise_server_exceptions=False)


@pytest.fixture
def sign_in(app: FastAPI, services: Services) -> Callable[[str, Role], TestClient]:
    """`sign_in("grace", "technician")`: a browser of that person."""

    def person(name: str, role: Role) -> TestClient:
        with services.write() as session:
            auth.create_user(session, name=name, password=PASSWORD, role=role)
        browser = TestClient(app, follow_redirects=True, raise_server_exceptions=False)
        page = browser.post("/login", data={"name": name, "password": PASSWORD})
        assert page.status_code == 200
        return browser

    return person


@pytest.fixture
def ada(sign_in: Callable[[str, Role], TestClient]) -> TestClient:
    """The administrator, signed in."""
    return sign_in("ada", "admin")
