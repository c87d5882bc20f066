"""One server over HTTP: its address, its headers, the secrets in them, and what it rejects."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

import aiohttp

from overproof.clients import secrets
from overproof.clients.openai_rejections import advice, is_moderated, is_used_up
from overproof.clients.openai_wire import server_error
from overproof.clients.retry import Attempt, is_retryable, may_be_billed, means_overload
from overproof.config.teacher import TeacherConfig
from overproof.errors import ConfigError, SecretError, TeacherError, TeacherUnreachableError
from overproof.records.exchange import Completion, Outcome

__all__ = ["CONNECT_TIMEOUT_S", "HttpSession"]

CONNECT_TIMEOUT_S = 20.0
LOOPBACK = ("127.", "localhost", "::1")


class HttpSession:
    """The session with one server; see ``TeacherConfig`` for what can be set.

    Args:
        config: a teacher of a kind that is asked over HTTP.
        base_url: where ``config.base_url`` says nothing.
        key_header: header that carries the API key, by default ``config.api_key_header``. In
            ``Authorization`` it is a bearer token, elsewhere it stands alone.
        headers: sent with every request besides the recipe's, and kept as secret.
        open_headers: sent with every request besides the recipe's, no secrets.

    Raises:
        ConfigError: a base URL that cannot work.
        SecretError: an environment variable that the recipe names is missing.
    """

    def __init__(
        self,
        config: TeacherConfig,
        *,
        base_url: str | None = None,
        key_header: str | None = None,
        headers: Mapping[str, str] | None = None,
        open_headers: Mapping[str, str] | None = None,
    ) -> None:
        url = config.base_url or base_url or ""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError("teacher.base_url", "is not an http(s) URL", "use 'https://HOST/v1'")
        self.base_url = url.rstrip("/")
        self.host = parts.hostname
        # What errors show: without user, password and query.
        where = parts.hostname if parts.port is None else f"{parts.hostname}:{parts.port}"
        self.shown = f"{parts.scheme}://{where}{parts.path.rstrip('/')}"
        self.values = secrets.redaction_of(config)
        self.query = secrets.resolved(config.query)
        self._origin = f"{parts.scheme}://{parts.netloc}/"
        self._config = config
        self._secrets = secrets.Mask(self.values | dict(headers or {}))
        self._headers = dict(open_headers or {}) | secrets.resolved(config.headers)
        self._headers |= dict(headers or {})
        if (secret := secrets.key_of(config)) is not None:
            header = key_header or config.api_key_header
            bearer = header.lower() == "authorization"
            self._headers[header] = f"Bearer {secret}" if bearer else secret
        self._loopback = parts.hostname.startswith(LOOPBACK)
        self._session: aiohttp.ClientSession | None = None
        # A question was answered with 200: the key is good, and what is refused is the question.
        self._was_answered = False

    async def open(self) -> None:
        """Make the session; nothing is sent yet."""
        timeout = aiohttp.ClientTimeout(
            total=self._config.timeout_s,
            sock_connect=min(CONNECT_TIMEOUT_S, self._config.timeout_s),
        )
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),  # the limiter is the limit
            timeout=timeout,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            # A proxy set in the environment is for the world outside, not for this machine.
            trust_env=not self._loopback,
        )

    async def close(self) -> None:
        """End the session."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """The open session, for requests that need neither pace nor retries."""
        if self._session is None:
            raise RuntimeError("use the teacher inside `async with`")
        return self._session

    def url_of(self, path: str) -> str:
        """The whole URL of a path below the base URL.

        Raises:
            TeacherError: ``path`` is a URL of another origin.
        """
        if not path.startswith(("http://", "https://")):
            return self.base_url + path
        if not path.startswith(self._origin):  # the key is for this server alone
            raise TeacherError(
                self.shown, f"it refers to another server: {self.mask(path)}", "ask its operator"
            )
        return path

    def rejected(self, status: int, raw: str, wait_s: float | None = None) -> Attempt:
        """What a status other than 200 makes of an attempt.

        Ends the run where no other request will fare better: the key is refused (401), or a quota
        is used up. 403 says either that of the key or that of one question; it is the question's
        once another was answered, or where the body speaks of moderation.
        """
        message, _ = server_error(self.mask(raw))
        way_out = advice(status, message, self._config.max_tokens_field)
        text = f"HTTP {status}: {message}" + (f"; {way_out}" if way_out else "")
        completion = Completion(
            outcome=Outcome.FAILED,
            status=status,
            error=text,
            uncertain_attempts=int(may_be_billed(status)),
        )
        if is_used_up(status, raw):
            return Attempt(completion, fatal=self._used_up(status, message))
        of_key = status == 403 and not self._was_answered and not is_moderated(raw)
        if status == 401 or of_key:
            return Attempt(completion, fatal=self._key_refused(status, message))
        return Attempt(
            completion,
            retry=is_retryable(status),
            wait_s=wait_s,
            overloaded=means_overload(status),
        )

    def unreachable(self, cause: str) -> TeacherUnreachableError:
        """The error where nobody answers."""
        return TeacherUnreachableError(
            self.shown,
            f"nobody answers ({self.mask(cause)})",
            "check teacher.base_url, the network, and that the server runs",
        )

    def mask(self, text: str) -> str:
        """``text`` without secrets."""
        return self._secrets.text(text)

    def _used_up(self, status: int, message: str) -> TeacherError:
        return TeacherError(
            self.shown,
            f"the quota is used up ({status}): {message}",
            "pay, raise the limit, or wait until it is renewed; then run the same command again: "
            "every answer so far is kept",
        )

    def _key_refused(self, status: int, message: str) -> SecretError:
        variable = self._config.api_key_env
        return SecretError(
            f"environment variable {variable}" if variable else self.shown,
            f"the server refuses the key ({status}): {message}"
            if variable
            else f"the server wants a key ({status}): {message}",
            "check that the key is current and may use this model"
            if variable
            else "name its environment variable in teacher.api_key_env",
        )
