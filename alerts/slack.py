"""Slack, through Airflow's hook and connection: the one file that talks to it.

The connection `slack_default` (type Slack API) holds the bot token as its password; its extra may name `channel`
(default `#driftloop`), `base_url` and `timeout`.
"""

from collections.abc import Callable
from datetime import timedelta
from http.client import HTTPException
from typing import Any

from airflow.providers.slack.hooks.slack import SlackHook
from airflow.sdk.exceptions import AirflowNotFoundException
from slack_sdk.errors import SlackApiError, SlackRequestError

from alerts.messages import escape
from alerts.outbox import Alert, Delivery, Posted

CONNECTION = "slack_default"
CHANNEL = "#driftloop"
TIMEOUT_SECONDS = 10
MINUTE = timedelta(minutes=1)
CLOSED_ERRORS = frozenset(
    {
        "access_denied", "account_inactive", "channel_is_archived", "channel_not_found", "deprecated_endpoint",
        "ekm_access_denied", "enterprise_is_restricted", "invalid_auth", "is_archived", "method_deprecated",
        "missing_scope", "no_permission", "not_allowed_token_type", "not_authed", "not_in_channel",
        "org_login_required", "restricted_action", "restricted_action_read_only_channel", "team_access_not_granted",
        "token_expired", "token_revoked", "two_factor_setup_required",
    }
)  # fmt: skip
"""Slack's words for a token or a channel that takes no message at all, from chat.postMessage's list of errors."""
AWAY_ERRORS = frozenset(
    {"internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"}
)
"""Slack's words for a failure of its own."""


def slack_sender() -> Callable[[Alert], Posted] | None:
    """Make the sender that the connection describes, or None when there is no such connection or no token in it."""
    hook = SlackHook(slack_conn_id=CONNECTION, timeout=TIMEOUT_SECONDS, retry_handlers=[])
    try:
        channel = hook.get_connection(CONNECTION).extra_dejson.get("channel") or CHANNEL
        client = hook.client
    except AirflowNotFoundException:
        return None

    def send(alert: Alert) -> Posted:
        try:
            response = client.chat_postMessage(**_payload(alert, channel))
        except SlackApiError as err:
            return _refused(err)
        except (OSError, HTTPException, SlackRequestError) as err:
            return Posted(answer=Delivery.AWAY, error=f"Slack is not reachable: {err}")
        return Posted(answer=Delivery.SENT, thread=response.get("ts"))

    return send


def _payload(alert: Alert, channel: str) -> dict[str, Any]:
    payload: dict[str, Any] = {
        "channel": channel,
        "text": escape(alert.text),
        "blocks": alert.blocks,
        "unfurl_links": False,
        "unfurl_media": False,
    }
    if alert.thread is not None:
        payload |= {"thread_ts": alert.thread, "reply_broadcast": alert.severity == "critical"}
    return payload


def _refused(err: SlackApiError) -> Posted:
    """Read why Slack did not take a message; what only a person can mend is tried slowly."""
    response = err.response
    if response.status_code == 429:
        after = str(response.headers.get("Retry-After", ""))
        wait = timedelta(seconds=int(after)) if after.isdigit() else MINUTE
        return Posted(answer=Delivery.BUSY, error=f"Slack: too many messages, wait {wait.seconds} s", retry_after=wait)
    body = response.data if isinstance(response.data, dict) else {}
    word = str(body.get("error", "")) or f"HTTP {response.status_code}"
    if response.status_code >= 500:  # whatever a proxy wrote into the body
        return Posted(answer=Delivery.AWAY, error=f"Slack failed: HTTP {response.status_code}")
    if word in AWAY_ERRORS:
        return Posted(answer=Delivery.AWAY, error=f"Slack failed: {word}")
    if word in CLOSED_ERRORS or response.status_code in (401, 403):
        return Posted(
            answer=Delivery.CLOSED, error=f"Slack refused: {word}; check connection {CONNECTION} (token, channel)"
        )
    return Posted(answer=Delivery.ODD, error=f"Slack refused this message: {word}")  # others may be fine
