"""Where the facts about one request are found: for logs, traces and metrics alike.

Tenant and user are headers that the authentication settings name, because Envoy fills them from
verified claims. The others are plain application headers and are written down here.
"""

from __future__ import annotations

from model.settings import Authentication

SESSION_HEADER = "x-session-id"
CONVERSATION_HEADER = "x-conversation-id"
MODEL_HEADER = "x-ai-model"
"""Response header in which an AI service names the model that answered."""
TOKENS_HEADER = "x-token-count"
"""Response header in which an AI service states the tokens that the answer cost, as an integer."""


def identity_headers(authentication: Authentication) -> dict[str, str]:
    """Request header by field name, in the order in which logs and traces list them."""
    return {
        "tenant_id": authentication.tenant.header,
        "user_id": authentication.user.header,
        "session_id": SESSION_HEADER,
        "conversation_id": CONVERSATION_HEADER,
    }


AI_HEADERS = {"ai_model": MODEL_HEADER, "token_count": TOKENS_HEADER}
"""Response header by field name."""


def verified_claim(claim: str) -> tuple[str, str, str]:
    """Path in Envoy's dynamic metadata at which a claim of the verified token stands.

    Only a token that jwt_authn accepted is there, so a client can't write it; a header it can,
    on every request that is refused before jwt_authn runs.
    """
    return ("envoy.filters.http.jwt_authn", "payload", claim)
