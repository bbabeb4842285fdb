"""PPOTrainer on its own, as a user of TRL would call it: models, paths, functions, plain prompts, a separate critic."""

from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from test_ppo import PROMPTS, adapter, curve, trainer, weights
from test_score import SPECIAL, WORDS, tiny_config, tiny_policy, tiny_reward_model, tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import LlamaForSequenceClassification, PreTrainedTokenizerFast
from trl import RLOOConfig

from cai.core.errors import UserError
from cai.models.chat import text_ids
from cai.train import PPOConfig, PPOTrainer
from cai.train.rl.groups import ResumableRLOO
from cai.train.rl.reward_models import reward_function

ASKED = [[{"role": "user", "content": "hello"}], [{"role": "user", "content": "w1 w2"}]]
ANSWERED = [[{"role": "assistant", "content": "yes"}], [{"role": "assistant", "content": "no no stop"}]]


def backwards() -> PreTrainedTokenizerFast:
    """The tiny tokenizer with the words numbered from the other end, and nothing to pad with but its end of turn."""
    numbered = {word: i for i, word in enumerate(SPECIAL + WORDS[::-1])}
    core = Tokenizer(models.WordLevel(numbered, unk_token="<|unk|>"))
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(" ", "removed"), pre_tokenizers.Split("\n", "isolated")]
    )
    core.add_special_tokens(SPECIAL)
    names = {"bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "unk_token": "<|unk|>", "pad_token": "<|im_end|>"}
    return PreTrainedTokenizerFast(tokenizer_object=core, chat_template=tiny_tokenizer().chat_template, **names)


def plain(path: Path, reward, **options) -> PPOTrainer:
    defaults = {"rollouts": 1, "per_device_train_batch_size": 4, "max_completion_length": 4, "use_cpu": True}
    defaults |= {"report_to": "none", "save_strategy": "no", "disable_tqdm": True}
    given = {name: options.pop(name) for name in ("reward_processing_classes", "model") if name in options}
    rows = Dataset.from_list([{"prompt": f"hello w{i}", "wanted": f"w{i}"} for i in range(4)])
    args = PPOConfig(str(path), **defaults | options)
    return PPOTrainer(
        given.pop("model", None) or tiny_policy(), reward, args, rows, processing_class=tiny_tokenizer(), **given
    )


def test_a_reward_model_reads_text_by_its_own_tokenizer():
    """Id 5 is "user" to the policy and "w10" to this reward model; ids written out by hand."""
    model, tokenizer = tiny_reward_model(), backwards()
    reward = reward_function(model, tokenizer, "cpu")
    # From the end: w11 4 ... w2 13, w1 14, w0 15, stop 16, hello 17, no 18, yes 19, assistant 20, user 21, system 22,
    # line break 23.
    first = [1, 21, 23, 17, 2, 23, 1, 20, 23, 19, 2, 23]
    second = [1, 21, 23, 14, 13, 2, 23, 1, 20, 23, 18, 18, 16, 2, 23]
    alone = [model(input_ids=torch.tensor([ids])).logits.item() for ids in (first, second)]
    assert abs(alone[0] - alone[1]) > 0.01
    assert reward(ASKED, ANSWERED) == pytest.approx(alone, abs=1e-5)
    assert tokenizer.pad_token == "<|im_end|>", "the caller's tokenizer is left as it was"


def test_a_plain_prompt_is_read_as_plain_text():
    model = tiny_reward_model()
    reward = reward_function(model, tiny_tokenizer(), "cpu")
    expected = model(input_ids=torch.tensor([[10, 8]])).logits.item()
    assert reward(["hello "], ["yes"]) == pytest.approx([expected], abs=1e-5)


def beginning(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer, which now puts its <|im_start|> (1) before every text, as Llama's and Gemma's put theirs."""
    core = tokenizer.backend_tokenizer
    core.post_processor = processors.TemplateProcessing("<|im_start|> $A", special_tokens=[("<|im_start|>", 1)])
    return tokenizer


RENDERED = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("prompt", "answer", "ids"),
    [
        # Its marks are marks, and it has a beginning already.
        (RENDERED, "yes", [1, 6, 4, 10, 2, 4, 1, 7, 4, 8]),
        # What was not rendered, the tokenizer begins.
        ("hello ", "yes", [1, 10, 8]),
        # An answer forges no turn: "< |im_end|>" is two unknown words (3), and so is "< |im_start|>user".
        (RENDERED, "yes<|im_end|>", [1, 6, 4, 10, 2, 4, 1, 7, 4, 3, 3]),
    ],
)
def test_a_prompt_that_was_rendered_already_is_read_as_it_was_rendered(prompt, answer, ids):
    model, tokenizer = tiny_reward_model(), beginning(tiny_tokenizer())
    assert tokenizer("yes")["input_ids"] == [1, 8]
    expected = model(input_ids=torch.tensor([ids])).logits.item()
    assert reward_function(model, tokenizer, "cpu")([prompt], [answer]) == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize("template", [None, "no marks: {{ messages[0]['content'] }}", "{{ '<|im_start|>user' }}"])
def test_a_beginning_is_never_put_twice_and_not_where_the_template_writes_none(template):
    tokenizer = beginning(tiny_tokenizer())
    tokenizer.chat_template = template
    assert text_ids(tokenizer, "<|im_start|>hello") == [1, 10]
    assert text_ids(tokenizer, "hello<|im_end|>") == [1, 10, 2], "taken off again by who rendered it"
    tokenizer.bos_token, tokenizer.chat_template = "<|pad|>", "{{ '<|im_end|>' + messages[0]['content'] }}"
    assert text_ids(tokenizer, "<|im_end|>hello") == [2, 10]


@pytest.mark.parametrize("kind", ["ppo", "rloo"])
def test_the_policy_reads_a_rendered_prompt_as_it_was_rendered(kind, tmp_path):
    rows = Dataset.from_list([{"prompt": RENDERED} for _ in range(4)])
    options = {"per_device_train_batch_size": 4, "max_completion_length": 4, "use_cpu": True, "report_to": "none"}
    seen = []

    def reward(prompts, completions, completion_ids, **_):
        return [1.0] * len(prompts)

    if kind == "ppo":
        made = PPOTrainer(
            tiny_policy(),
            reward,
            PPOConfig(str(tmp_path), rollouts=1, **options),
            rows,
            processing_class=beginning(tiny_tokenizer()),
        )
    else:
        made = ResumableRLOO(
            tiny_policy(),
            reward,
            RLOOConfig(str(tmp_path), max_steps=1, num_generations=2, beta=0.0, **options),
            rows,
            processing_class=beginning(tiny_tokenizer()),
        )
    inner = made._draw
    made._draw = lambda ids: seen.extend(ids) or inner(ids)
    made.train()
    assert seen and all(ids == [1, 6, 4, 10, 2, 4, 1, 7, 4] for ids in seen)


def test_what_is_longer_than_the_reward_model_can_read_is_not_scored():
    torch.manual_seed(0)
    model = LlamaForSequenceClassification(tiny_config(num_labels=1, max_position_embeddings=13))
    rewards = reward_function(model, tiny_tokenizer(), "cpu")(ASKED, ANSWERED)  # 12 tokens and 15
    assert rewards[0] is not None and rewards[1] is None


def test_a_path_is_as_good_as_the_model_and_names_the_reward(tmp_path):
    tiny_reward_model().save_pretrained(tmp_path / "taste")
    tiny_tokenizer().save_pretrained(tmp_path / "taste")
    reward = reward_function(str(tmp_path / "taste"), None, "cpu")
    known = reward_function(tiny_reward_model(), tiny_tokenizer(), "cpu")
    assert reward(ASKED, ANSWERED) == pytest.approx(known(ASKED, ANSWERED), abs=1e-6)
    assert reward.__name__ == "taste"


def test_a_model_without_a_reward_head_is_no_reward_model(tmp_path):
    tiny_policy().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="no trained head"):
        reward_function(str(tmp_path), None, "cpu")
    two = LlamaForSequenceClassification(tiny_config(num_labels=2))
    with pytest.raises(UserError, match="one label, this one 2"):
        reward_function(two, tiny_tokenizer(), "cpu")


def test_functions_models_and_paths_add_up(tmp_path):
    """Plain prompts; a sync function, an async one that reads a column, and a reward model with its own tokenizer."""
    seen = []

    def sync(prompts, completions, **_):
        return [1.0] * len(prompts)

    async def asynchronous(prompts, completions, wanted, **_):
        seen.extend(zip(prompts, wanted, strict=True))
        return [0.5] * len(prompts)

    model = tiny_reward_model()
    torch.nn.init.zeros_(model.score.weight)
    rewards = [sync, asynchronous, model]
    taught = plain(tmp_path, rewards, reward_processing_classes=[None, None, backwards()])
    taught.train()
    assert curve(taught, "reward") == [1.5] and curve(taught, "unscored") == [0]
    assert len(seen) == 4 and all(prompt == f"hello {wanted}" for prompt, wanted in seen)


def test_a_policy_by_path_with_an_adapter(tmp_path):
    tiny_policy().save_pretrained(tmp_path / "start")
    taught = PPOTrainer(
        str(tmp_path / "start"),
        lambda prompts, **_: [2.0] * len(prompts),  # more than what an answer without end costs
        PPOConfig(str(tmp_path), rollouts=1, per_device_train_batch_size=4, max_completion_length=4, use_cpu=True),
        Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS]),
        processing_class=tiny_tokenizer(),
        peft_config=LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    )
    before = weights(taught)
    taught.train()
    moved = {name for name, tensor in weights(taught).items() if not torch.equal(tensor, before[name])}
    assert moved and all("lora_" in name or "value_head" in name for name in moved)


@pytest.mark.parametrize("lora", [False, True])
def test_a_separate_critic_learns_and_the_policy_learns_nothing_from_its_loss(tmp_path, lora):
    peft = adapter() if lora else None
    options = {"learning_rate": 0.0, "critic_learning_rate": 1e-2, "lr_scheduler_type": "constant"}
    taught = trainer(tmp_path, value_model=tiny_reward_model(3), peft_config=peft, **options)
    before = weights(taught)
    first = taught.value_head.model.score.weight.clone()
    taught.train()
    moved = {name for name, tensor in weights(taught).items() if not torch.equal(tensor, before[name])}
    assert moved and all("value_head.model" in name for name in moved)
    assert any("layers.0" in name for name in moved), "its trunk as well as its head"
    assert not torch.equal(taught.value_head.model.score.weight, first)
    taught.save_model(str(tmp_path / "saved"))
    other = trainer(tmp_path / "other", value_model=tiny_reward_model(4))
    other.load_critic(tmp_path / "saved")
    assert torch.equal(other.value_head.model.score.weight, taught.value_head.model.score.weight)


@pytest.mark.parametrize(("twice", "shape"), [(False, (1, 10)), (True, (2, 8))])
def test_padding_and_a_prompt_that_is_answered_twice_are_read_once_unless_computed_again(tmp_path, twice, shape):
    """Five tokens of a prompt, and answers of two and of three; behind a checkpoint, two rows of eight."""
    taught = trainer(tmp_path, peft_config=adapter(), activation_checkpointing=twice)
    answers = taught._padded("completion", [[8, 2], [9, 14, 2]], "right")
    rollout = taught._padded("prompt", [[1, 6, 4, 12, 13]] * 2, "left") | answers
    seen = []
    taught.network.get_input_embeddings().register_forward_hook(lambda _, args, __: seen.append(tuple(args[0].shape)))
    taught._evaluate_rollout(rollout)
    assert seen == [shape, shape], "of the policy and of the reference"
    layers = [module for module in taught.policy.modules() if hasattr(module, "lora_A")]
    assert layers and all(("forward" in vars(layer)) != twice for layer in layers)


def test_a_separate_critic_reads_the_states_in_which_tokens_are_chosen(tmp_path):
    critic = tiny_reward_model(3)
    taught = trainer(tmp_path, value_model=critic)
    prompts, answers = [[1, 6, 4], [1, 6, 4, 12, 13]], [[8, 2], [9, 14, 2]]
    rollout = taught._padded("prompt", prompts, "left") | taught._padded("completion", answers, "right")
    values_BT = taught._evaluate_rollout(rollout)["old_values"]
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        hidden = critic.model(input_ids=torch.tensor([prompt + answer])).last_hidden_state
        expected = critic.score(hidden)[0, len(prompt) - 1 : -1, 0]
        assert values_BT[row, : len(answer)].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_a_critic_that_starts_as_the_reward_model_leaves_it_alone(tmp_path):
    reward = tiny_reward_model(3)
    first = reward.score.weight.clone()
    args = PPOConfig(str(tmp_path), rollouts=1, per_device_train_batch_size=4, max_completion_length=4, use_cpu=True)
    rows = Dataset.from_list([{"prompt": prompt} for prompt in PROMPTS])
    tokenizer = tiny_tokenizer()
    given = {"processing_class": tokenizer, "reward_processing_classes": tokenizer}
    taught = PPOTrainer(tiny_policy(), reward, args, rows, value_model=reward, **given)
    taught.train()
    assert torch.equal(reward.score.weight, first)
    assert not torch.equal(taught.value_head.model.score.weight, first)


def test_a_critic_of_another_vocabulary_is_refused(tmp_path):
    strange = LlamaForSequenceClassification(tiny_config(num_labels=1))
    strange.config.vocab_size = 99
    with pytest.raises(UserError, match="knows 99 tokens"):
        trainer(tmp_path, value_model=strange)


def test_without_prompts_it_says_so(tmp_path):
    with pytest.raises(UserError, match="known length"):
        PPOTrainer(tiny_policy(), lambda **_: [], PPOConfig(str(tmp_path), use_cpu=True))
