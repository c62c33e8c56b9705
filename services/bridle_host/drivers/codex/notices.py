"""What Codex tells beside its turns' items: what of it is for people, and what is noise.

Pure. Used by the dialect only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bridle_core.observations import Plan, PlanStep, StopReason
from bridle_host.drivers.codex.rpc import Fields
from bridle_host.drivers.codex.standing import Counts

#: How much of what the agent tells a note says, in characters.
SHOWN = 2048
STEPS = 1000

#: What would cost most and serve nobody here; the agent is asked not to say it at all.
UNWANTED = (
    "item/plan/delta",
    "item/reasoning/summaryPartAdded",
    "item/reasoning/summaryTextDelta",
    "item/reasoning/textDelta",
    "rawResponse/completed",
    "rawResponseItem/completed",
    "thread/readState/changed",
    "turn/diff/updated",
)

#: Known, and of no interest to a user of a session: what the user interface of an editor shows,
#: what is told once more by something else, and what concerns an account.
NOISE = frozenset(
    {
        *UNWANTED,
        "account/gatewayOAuth/changed",
        "account/login/completed",
        "account/rateLimits/updated",
        "account/updated",
        "app/list/updated",
        "command/exec/outputDelta",
        "externalAgentConfig/import/completed",
        "externalAgentConfig/import/progress",
        "fs/changed",
        "hook/started",
        "item/autoApprovalReview/started",
        "item/fileChange/outputDelta",
        "item/fileChange/patchUpdated",
        "mcpServer/event/stream/notification",
        "mcpServer/oauthLogin/completed",
        "model/safetyBuffering/updated",
        "model/verification",
        "modelProvider/authRecoveryCompleted",
        "modelProvider/authRecoveryStarted",
        "process/exited",
        "process/outputDelta",
        "project/changed",
        "remoteControl/status/changed",
        "skills/changed",
        "thread/archived",
        "thread/attachment/updated",
        "thread/closed",
        "thread/compacted",
        "thread/deleted",
        "thread/environment/connected",
        "thread/environment/disconnected",
        "thread/goal/cleared",
        "thread/name/updated",
        "thread/prediction/updated",
        "thread/project/updated",
        "thread/queue/changed",
        "thread/reverted",
        "thread/section/changed",
        "thread/settings/updated",
        "thread/started",
        "thread/status/changed",
        "thread/unarchived",
        "turn/moderationMetadata",
        "windows/worldWritableWarning",
        "windowsSandbox/setupCompleted",
    }
)
#: The same, whole families of them.
NOISY = ("fuzzyFileSearch/", "thread/realtime/")


def is_noise(method: str) -> bool:
    return method in NOISE or method.startswith(NOISY)


def text_of(method: str, params: Fields) -> str | None:
    """What a notice says to people: "" for nothing, None where the method is not known."""
    reader = _TEXTS.get(method)
    return None if reader is None else reader(params)[:SHOWN]


def error_of(error: Fields) -> str:
    """A line about what went wrong."""
    message, more = error.text("message"), error.text("additionalDetails")
    text = f"{message} ({more})" if more and more != message else message
    return (text or "codex told of an error without a message")[:SHOWN]


def reason_of(error: Fields | None) -> StopReason:
    """How a turn ended that failed."""
    info = error.raw("codexErrorInfo") if error is not None else None
    word = next(iter(info), "") if isinstance(info, dict) else info
    return _REASONS.get(word, StopReason.FAILED) if isinstance(word, str) else StopReason.FAILED


def advice_of(error: Fields | None) -> str:
    """What the user can do about it, where that is known; else ""."""
    if error is not None and error.raw("codexErrorInfo") == "unauthorized":
        return "; log in on this host with `codex login`, as the user of bridle-host"
    return ""


def plan_of(params: Fields) -> Plan:
    steps = []
    for step in params.each("plan"):
        state = _STATES.get(step.name("status"), "PENDING")
        steps.append(PlanStep(step.text("step"), state))
    return Plan(tuple(steps[:STEPS]))


def counts_of(usage: Fields) -> Counts:
    """Tokens of one of the two breakdowns."""
    return Counts(
        usage.count("inputTokens"), usage.count("outputTokens"), usage.count("cachedInputTokens")
    )


_STATES: Mapping[str, str] = {"inProgress": "IN_PROGRESS", "completed": "COMPLETED"}

_REASONS: Mapping[str, StopReason] = {
    "contextWindowExceeded": StopReason.LIMIT_REACHED,
    "sessionBudgetExceeded": StopReason.LIMIT_REACHED,
    "usageLimitExceeded": StopReason.LIMIT_REACHED,
    "rateLimitExceeded": StopReason.LIMIT_REACHED,
    "cyberPolicy": StopReason.REFUSED,
    "misalignmentPolicyViolation": StopReason.REFUSED,
}


def _warning(params: Fields) -> str:
    return params.text("message")


def _config_warning(params: Fields) -> str:
    return "\n".join(filter(None, (params.text("summary"), params.text("details"))))


def _error(params: Fields) -> str:
    text = error_of(params.inner("error"))
    # One that ends the turn is told with its end.
    return f"{text}; codex tries again" if params.flag("willRetry") else ""


def _rerouted(params: Fields) -> str:
    return f"codex went from the model {params.name('fromModel')} to {params.name('toModel')}"


def _goal(params: Fields) -> str:
    goal = params.inner("goal")
    return f"goal, {goal.name('status')}: {goal.text('objective')}"


def _mcp_server(params: Fields) -> str:
    if params.name("status") != "failed":
        return ""
    return f"the MCP server {params.name('name')} did not start: {params.text('error')}"


def _hook(params: Fields) -> str:
    run = params.inner("run")
    if run.name("status") == "completed":
        return ""
    name, status = run.name("eventName"), run.name("status")
    return f"the hook of {name} ended as {status}: {run.text('statusMessage')}"


def _review(params: Fields) -> str:
    return "codex had an approval reviewed by a model of its own"


_TEXTS: Mapping[str, Callable[[Fields], str]] = {
    "warning": _warning,
    "guardianWarning": _warning,
    "configWarning": _config_warning,
    "deprecationNotice": _config_warning,
    "error": _error,
    "model/rerouted": _rerouted,
    "thread/goal/updated": _goal,
    "mcpServer/startupStatus/updated": _mcp_server,
    "hook/completed": _hook,
    "item/autoApprovalReview/completed": _review,
    "autoApprovalReview/strictReviewRequired": _review,
}
