"""Who may come in: a token, or a cookie that was made from it."""

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass

from pydantic import SecretStr

COOKIE = "xoron_session"
SESSION_S = 30 * 24 * 3600


@dataclass(frozen=True)
class Sessions:
    """Cookies are signed with a key derived from the token: they outlive a restart and end with the token."""

    token: str | None

    @classmethod
    def of(cls, token: SecretStr | None) -> "Sessions":
        """The door for a token; None: everybody who reaches the server is let in."""
        return cls(None if token is None else token.get_secret_value())

    def knows(self, token: str) -> bool:
        """Whether this is the token; takes as long for any wrong one."""
        return self.token is None or hmac.compare_digest(token.encode(), self.token.encode())

    def issue(self) -> str:
        """A new cookie."""
        body = f"{int(time.time()) + SESSION_S}.{secrets.token_urlsafe(12)}"
        return f"{body}.{self._sign(body)}"

    def accepts(self, cookie: str) -> bool:
        """Whether this cookie was issued here and has not expired."""
        body, _, signature = cookie.rpartition(".")
        expires = body.partition(".")[0]
        is_ours = hmac.compare_digest(signature.encode(), self._sign(body).encode())
        return is_ours and expires.isdigit() and int(expires) > time.time()

    def _sign(self, body: str) -> str:
        key = hashlib.sha256(b"xoron session " + (self.token or "").encode()).digest()
        return hmac.new(key, body.encode(), hashlib.sha256).hexdigest()
