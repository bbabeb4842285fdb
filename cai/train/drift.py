"""How far a policy has moved from the SFT policy that it began as: the KL of each of its held-out answers.

The exact KL at every token (cai/train/distributions.py), of what was sampled: both models at the temperature of the
answers. PPO's own penalty is against the policy that its round began with, which in later rounds is another one.
"""

from pathlib import Path

from cai.core.progress import progress
from cai.core.records import Prompt, Response, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.models.chat import answer_ids, with_system
from cai.models.loading import shared_tokenizer
from cai.models.references import ModelRef
from cai.models.workbench import Workbench
from cai.train.distributions import ROOM, AnswerDrift, as_sampled, blocks, divergence_from, log_distributions
from cai.train.trainable import PromptSet, Trainable


@version(1)
def score_drift(
    out: Path, work: Workbench, *, prompts: PromptSet, answers: Artifact, model: Trainable, sft: ModelRef,
    temperature: float,
) -> None:  # fmt: skip
    """drift.jsonl: an `AnswerDrift` for each answer that has a token.

    answers: of `model`, to these prompts, sampled at this temperature. sft: the policy that it is compared with.
    """
    from cai.models.engines.sampling import stop_ids  # heavy

    network, tokenizer = work.language_model(model.ref, model.dtype), shared_tokenizer(model.ref)
    asked = {prompt.id: prompt for prompt in read_jsonl(prompts.prompts / "prompts.jsonl", Prompt)}
    stops, rows = stop_ids(network, tokenizer), {}
    for answer in read_jsonl(answers / "responses.jsonl", Response):
        chat = with_system(prompts.asked(asked[answer.prompt_id]), model.policy.system)
        start, written = answer_ids(tokenizer, chat, answer.text)
        if ids := as_sampled(written, stops, ended=answer.finish == "stop"):
            rows[answer.prompt_id] = start, ids
    vocabulary = network.config.get_text_config().vocab_size

    drifts: list[AnswerDrift] = []
    with progress("compare with the SFT policy", len(rows)) as step:
        for names in blocks([(name, len(ids)) for name, (_, ids) in rows.items()], ROOM // (4 * vocabulary)):
            network = work.language_model(model.ref, model.dtype)
            own = [log_distributions(network, rows[name], temperature) for name in names]
            network = work.language_model(sft, model.dtype)
            for name, logp_TV in zip(names, own, strict=True):
                kl = divergence_from(logp_TV, log_distributions(network, rows[name], temperature))
                drifts.append(AnswerDrift(name, kl, len(logp_TV)))
            step(len(names))
    write_jsonl(out / "drift.jsonl", drifts)
