"""One forward of the policy over a rollout: what it makes of the states in which the answers' tokens were chosen.

B answers, T answer tokens, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor


def answer_states(model: Any, rollout: dict[str, Tensor], *, pads_left: bool, **kwargs: Any) -> Any:
    """Logits (B, T, V), and values (B, T) with `with_values=True`: row t is of the state in which token t was chosen.

    rollout: prompt_ids, prompt_mask (padded on the left), completion_ids, completion_mask (on the right). pads_left:
    False for a model that reads padding on the left as text; it is moved to the right of each row.
    """
    ids = torch.cat([rollout["prompt_ids"], rollout["completion_ids"]], dim=1)
    mask = torch.cat([rollout["prompt_mask"], rollout["completion_mask"]], dim=1)
    if not pads_left:
        return _unpadded(model, rollout, ids, mask, **kwargs)
    # Token t is chosen one position before its own. Positions as a tensor, not as a number: transformers then copies
    # those states; on CPU a strided slice instead costs a copy of the vocabulary matrix for each row.
    chosen_at_T = torch.arange(rollout["prompt_ids"].size(1) - 1, ids.size(1) - 1, device=ids.device)
    return model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),  # prompts are padded on the left
        logits_to_keep=chosen_at_T,
        use_cache=False,
        **kwargs,
    )


def _unpadded(model: Any, rollout: dict[str, Tensor], ids: Tensor, mask: Tensor, **kwargs: Any) -> dict[str, Tensor]:
    """As `answer_states`, with all padding on the right."""
    left_B = rollout["prompt_mask"].size(1) - rollout["prompt_mask"].sum(dim=1)
    place_T = torch.arange(ids.size(1), device=ids.device)
    from_BT = (place_T + left_B[:, None]).clamp(max=ids.size(1) - 1)
    inside_BT = place_T + left_B[:, None] < ids.size(1)
    output = model(
        input_ids=ids.gather(1, from_BT),
        attention_mask=mask.gather(1, from_BT) * inside_BT,
        position_ids=place_T.expand_as(ids),
        logits_to_keep=place_T,
        use_cache=False,
        **kwargs,
    )
    answers_T = torch.arange(rollout["completion_ids"].size(1), device=ids.device)
    chosen_at_BT = rollout["prompt_mask"].sum(dim=1)[:, None] - 1 + answers_T
    rows_B1 = torch.arange(len(ids), device=ids.device)[:, None]
    names = ("logits", "values") if "with_values" in kwargs else ("logits",)
    return {name: output[name][rows_B1, chosen_at_BT] for name in names}
