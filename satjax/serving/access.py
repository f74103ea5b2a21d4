"""Who may ask a server, and who may change its zoo."""

from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from satjax.serving.api_errors import ApiError
from satjax.serving.browsers import by_another_name, from_another_site
from satjax.serving.keys import KeyRing

API_KEY = HTTPBearer(
    auto_error=False, scheme_name="ApiKey", description="One of the server's API keys, where it has any."
)
ADMIN_KEY = HTTPBearer(auto_error=False, scheme_name="AdminKey", description="One of the server's admin keys.")


class Access:
    """Dependencies of routes. Without `keys` everyone may ask; without `admin_keys` nobody may change the zoo."""

    def __init__(self, keys: KeyRing, admin_keys: KeyRing):
        self._keys, self._admin_keys = keys, admin_keys

    async def may_ask(self, request: Request, _: Annotated[Any, Depends(API_KEY)]) -> None:
        """Raises ApiError for a request without an API key, or, where the server has none, from a page of another site."""
        if len(self._keys) and not self._keys.holds(request.headers.get("authorization")):
            raise _unknown("API keys")
        server = (request.scope.get("server") or (None, None))[0]
        # What a page asks for with GET, its browser does not show to it.
        foreign = from_another_site if request.method == "POST" else by_another_name
        if not len(self._keys) and foreign(request.headers, server):
            raise ApiError(
                403,
                "this server has no API key, so it serves no pages of other sites; give it one, call it localhost, or let a proxy pass on the host it was asked for",
                code="other_site",
            )

    async def may_change(self, request: Request, _: Annotated[Any, Depends(ADMIN_KEY)]) -> None:
        """Raises ApiError for a request without an admin key."""
        if not len(self._admin_keys):
            raise ApiError(403, "this server has no admin key, so its zoo stays as it is", code="no_admin_key")
        if not self._admin_keys.holds(request.headers.get("authorization")):
            raise _unknown("admin keys")


def _unknown(keys: str) -> ApiError:
    """The error for a request without one of these keys."""
    return ApiError(
        401, f"give one of the server's {keys}", code="invalid_api_key", headers={"www-authenticate": "Bearer"}
    )
