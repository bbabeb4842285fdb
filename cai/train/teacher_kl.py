"""How far a policy is from a teacher with principles in its context (`rl.method: self_distil`), on held-out prompts.

At every token of the policy's own answers the exact KL(policy || teacher) over the vocabulary, both at the temperature
of the answers (cai/train/drift.py says why it is exact); the answer's end is one of its tokens where the policy ended
it. The policy reads the prompt as it is asked it, the teacher behind the principles that are drawn for it. A critique
is none of the context here: it is of another answer each time.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cai.core.progress import progress
from cai.core.records import Prompt, Response, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.models.chat import answer_ids, with_system
from cai.models.loading import shared_tokenizer
from cai.models.references import ModelRef
from cai.models.workbench import Workbench
from cai.train.drift import ROOM, AnswerDrift, Row, as_sampled, blocks, divergence_from, log_distributions
from cai.train.rl.teacher import TeacherContext
from cai.train.trainable import PromptSet, Trainable


@dataclass(frozen=True, slots=True)
class Teacher:
    """ref: the policy that its student began as. system: the student's system prompt."""

    ref: ModelRef
    context: TeacherContext
    system: str | None

    def keyed(self) -> dict[str, Any]:
        return {"teacher": self.ref, "teacher_system": self.system, **self.context.keyed()}


@version(1)
def score_teacher_kl(
    out: Path, work: Workbench, *, prompts: PromptSet, answers: Artifact, model: Trainable, teacher: Teacher,
    temperature: float,
) -> None:  # fmt: skip
    """drift.jsonl: an `AnswerDrift` for each answer that has a token; kl: from the teacher, in nats, over the answer.

    answers: of `model`, to these prompts, sampled at this temperature.
    """
    from cai.models.engines.sampling import stop_ids  # heavy

    network, tokenizer = work.language_model(model.ref, model.dtype), shared_tokenizer(model.ref)
    asked = {prompt.id: prompt for prompt in read_jsonl(prompts.prompts / "prompts.jsonl", Prompt)}
    stops, rows = stop_ids(network, tokenizer), {}
    for answer in read_jsonl(answers / "responses.jsonl", Response):
        prompt = asked[answer.prompt_id]
        prompt = replace(prompt, messages=prompts.asked(prompt))
        own, written = answer_ids(tokenizer, with_system(prompt.messages, model.policy.system), answer.text)
        context, _ = answer_ids(tokenizer, teacher.context.chat(prompt, teacher.system), answer.text)
        if ids := as_sampled(written, stops, ended=answer.finish == "stop"):
            rows[answer.prompt_id] = (own, ids), (context, ids)
    vocabulary = network.config.get_text_config().vocab_size

    kls: list[AnswerDrift] = []
    with progress("compare with the teacher", len(rows)) as step:
        for names in blocks([(name, len(pair[0][1])) for name, pair in rows.items()], ROOM // (4 * vocabulary)):
            own = _distributions(work, model.ref, [rows[name][0] for name in names], model, temperature)
            taught = _distributions(work, teacher.ref, [rows[name][1] for name in names], model, temperature)
            kls += [
                AnswerDrift(name, divergence_from(logp_TV, teacher_TV), len(logp_TV))
                for name, logp_TV, teacher_TV in zip(names, own, taught, strict=True)
            ]
            step(len(names))
    write_jsonl(out / "drift.jsonl", kls)


def _distributions(work: Workbench, ref: ModelRef, rows: list[Row], model: Trainable, temperature: float) -> list[Any]:
    network = work.language_model(ref, model.dtype)
    return [log_distributions(network, row, temperature) for row in rows]
