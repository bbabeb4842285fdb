"""Does RL keep what a log of live feedback taught? The second half of `python -m cai.bench live` (--policy ROLLOUTS).

A scripted rater's log is learned from as `rl.feedback` does, and PPO is run on that human reward alone: no reward model
beside it, no penalty for a missing end, a share that does not decay. So whatever the answers gain, the feedback gained.
Then the policy before and after answers the fresh prompts, with the same draws, and *all* its answers are measured by
the rater's own measure: nothing is re-ranked. Effects are in the measure's standard deviation before; the interval is
for other prompts (one rater, one run).

Checkpoints stand beside the log in the folder: a run that is cut off is gone on with by the same command.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from cai.bench.raters import Measure
from cai.core.draws import seed_of
from cai.core.records import Estimate, Prompt
from cai.data.feedback import FeedbackLog
from cai.models.chat import plain, with_system
from cai.models.engines import Sampling
from cai.models.references import Dtype, ModelRef
from cai.stats.crossed import contrast

BATCH, GENERATIONS, EPOCHS, RANK = 12, 2, 2, 16


@dataclass(frozen=True, slots=True)
class KeptSettings:
    """model, dtype, device, system: of the policy. tokens: of an answer. rollouts: of BATCH answers each. draws: as
    many answers to a prompt are measured."""

    model: ModelRef
    dtype: Dtype
    device: str
    system: str
    tokens: int
    rollouts: int
    draws: int
    learning_rate: float = 1e-3
    kl_coef: float = 0.05
    batch_tokens: int = 4096


@dataclass(frozen=True, slots=True)
class KeptGain:
    """gain: of the policy's answers to fresh prompts, in sd. correlation: how well the log was learned. kl: nats an
    answer, at the last rollout. reward: human reward of the rollouts' answers, in sd of the start's."""

    gain: Estimate
    correlation: float | None
    kl: float
    reward: tuple[float, ...]


def kept_gain(
    settings: KeptSettings, measure: Measure, log: FeedbackLog, train: Sequence[Prompt], fresh: Sequence[Prompt]
) -> KeptGain:
    """Train a policy on a log's human reward, and measure its answers before and after."""
    from datasets import Dataset

    from cai.models.architectures import lora
    from cai.models.loading import load_causal, load_tokenizer
    from cai.train import PPOConfig, PPOTrainer
    from cai.train.checkpoints import last_checkpoint
    from cai.train.live.reward import Annealing, Shaped, of_log

    network: Any = load_causal(settings.model, settings.dtype, settings.device).eval()
    tokenizer: Any = load_tokenizer(settings.model)
    human, _ = of_log(log, network, tokenizer, settings.system, settings.batch_tokens)
    reward = Shaped(
        lambda completions, **_: [0.0] * len(completions), human, network, tokenizer, Annealing(1.0, 1.0, EPOCHS),
        settings.batch_tokens,
    )  # fmt: skip
    reward.normalise([(with_system(a.messages, settings.system), a.tokens) for a in log.of()])
    folder = log.path.with_suffix("")
    chats = [plain(tokenizer, with_system(prompt.messages, settings.system)) for prompt in train]
    config = PPOConfig(
        output_dir=str(folder), rollouts=settings.rollouts, generation_batch_size=BATCH,
        per_device_train_batch_size=BATCH, num_generations=GENERATIONS, num_ppo_epochs=EPOCHS,
        max_completion_length=settings.tokens, learning_rate=settings.learning_rate, lr_scheduler_type="constant",
        kl_coef=settings.kl_coef, missing_eos_penalty=0.0, use_cpu=settings.device == "cpu", report_to=[], seed=0,
        save_strategy="steps", save_steps=EPOCHS, save_total_limit=2, disable_tqdm=True,
    )  # fmt: skip
    trainer: Any = PPOTrainer(
        network, reward, config, train_dataset=Dataset.from_list([{"prompt": chat} for chat in chats]),
        processing_class=tokenizer, peft_config=lora(network, RANK, None),
    )  # fmt: skip
    reward.model, reward.reference = trainer.model, trainer.reference
    trainer.train(resume_from_checkpoint=last_checkpoint(folder) is not None)
    with trainer.reference():
        before = _measured(trainer.model, tokenizer, settings, measure, fresh)
    after = _measured(trainer.model, tokenizer, settings, measure, fresh)
    gains = (after.mean(1) - before.mean(1)) / before.std()
    rows = [row for row in trainer.state.log_history if "reward" in row]
    return KeptGain(
        gain=contrast(gains[:, None], [prompt.id for prompt in fresh]).estimate, correlation=human.correlation(),
        kl=rows[-1]["kl"], reward=tuple(row["reward"] for row in rows),
    )  # fmt: skip


def _measured(
    model: Any, tokenizer: Any, settings: KeptSettings, measure: Measure, prompts: Sequence[Prompt]
) -> np.ndarray:
    """(prompts, draws) of the measure, of the policy as it stands."""
    import torch

    from cai.models.chat import chat_ids
    from cai.models.engines.sampling import sample_ids, stop_ids

    training, stops = model.training, stop_ids(model, tokenizer)
    model.eval()
    rows = [chat_ids(tokenizer, with_system(p.messages, settings.system), answer=True) for p in prompts]
    values = []
    for prompt, row in zip(prompts, rows, strict=True):
        seeds = [seed_of("kept", prompt.id, number) for number in range(settings.draws)]
        sampling = Sampling(settings.tokens, 1.0)
        with torch.no_grad():
            drawn = sample_ids(model, [row] * len(seeds), seeds, sampling, tokenizer.pad_token_id, stops)
        texts = [tokenizer.decode([token for token in ids if token not in stops]) for ids in drawn]
        values.append([measure(prompt.messages[-1].content, text) for text in texts])
    model.train(training)
    return np.array(values)
