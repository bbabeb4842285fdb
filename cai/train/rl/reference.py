"""The policy as it was before it learnt, which is the reference, without a second model: what training changes is kept
and exchanged.

Under FSDP2 a parameter that is given other data goes on with what its module has gathered before, and the reference
would silently be the policy: there the contents of the parts are exchanged, after all that was gathered is let go of.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

from cai.models.sharded import is_sharded, own_part, reshard


class Remembers:
    """For trainers of rollouts."""

    accelerator: Any
    model: Any
    state: Any
    is_fsdp_enabled: bool

    def remember(self) -> None:
        """Keep the policy as it is now for `reference`: what training changes, so that no second model is held.

        Under FSDP2 this process's part of it, once there are parts: call it again before weights are read into them.
        """
        self._reference: list[tuple[Any, Tensor]] = []
        if self.is_fsdp_enabled and not is_sharded(self.model):
            return
        reshard(self.model)
        self._reference = [(p, own_part(p.detach()).clone()) for p in self._trained()]

    def _trained(self) -> list[Any]:
        network = cast(Any, self.accelerator.unwrap_model(self.model))
        return [parameter for parameter in network.parameters() if parameter.requires_grad]

    @contextmanager
    def reference(self) -> Iterator[None]:
        """Within: the policy is the one that was remembered. All processes must enter."""
        if not self._reference:  # in parts since
            assert self.state.global_step == 0, "the policy has learnt already"
            self.remember()
        if not is_sharded(self.model):
            with _swapped(self._reference):
                yield
            return
        # Each forward gathers what it needs from the parts, whose memory FSDP2 knows: their contents are exchanged.
        trained = [(parameter, own_part(parameter.detach()).clone()) for parameter, _ in self._reference]
        try:
            self._put(self._reference)
            yield
        finally:
            self._put(trained)

    def _put(self, parts: list[tuple[Any, Tensor]]) -> None:
        reshard(self.model)  # or a later forward would go on with what it gathered before
        with torch.no_grad():
            for parameter, part in parts:
                own_part(parameter.detach()).copy_(part)


@contextmanager
def _swapped(others: list[tuple[Any, Tensor]]) -> Iterator[None]:
    """Within: the parameters have other data."""
    own = [parameter.data for parameter, _ in others]
    try:
        for parameter, data in others:
            parameter.data = data
        yield
    finally:
        for (parameter, _), data in zip(others, own, strict=True):
            parameter.data = data
