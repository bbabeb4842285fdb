"""What a checker says of one answer, and what it is told of the question."""

from dataclasses import dataclass

from cai.core.records import Prompt

NOTHING = "nothing to check in it"


@dataclass(frozen=True, slots=True)
class CheckResult:
    """holds: None where the answer holds nothing that could be checked, and `reason` says what."""

    holds: bool | None
    reason: str


def question_of(prompt: Prompt) -> str:
    """The human's last turn."""
    return next((message.content for message in reversed(prompt.messages) if message.role == "user"), "")
