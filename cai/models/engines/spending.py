"""What the servers of a run have read and written, what that cost, and the limits that stop it before they are passed.

Before a request is sent, the most that it can take is set aside: its prompt, and as many new tokens as it may write.
When its answer is there, what it took stands instead. A request whose answer never came, though it was sent, counts
whole: whoever serves it may have done the work.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cai.config.runtime import Runtime
from cai.config.served import Price
from cai.core.errors import UserError

MILLION = 1e6


class Spent(Exception):
    """The next request would pass a limit. name: of the limit, a setting of `runtime:`."""

    def __init__(self, name: str, limit: float) -> None:
        super().__init__(name)
        self.name, self.limit = name, limit


@dataclass
class Spending:
    """One for a run, over all its servers. read, written: tokens; cost: in whatever currency the prices are.

    aside: (tokens, cost) of the requests that are under way.
    """

    max_tokens: int | None = None
    max_cost: float | None = None
    prices: dict[str, Price] = field(default_factory=dict)
    read: int = 0
    written: int = 0
    cost: float = 0.0
    tokens_aside: int = 0
    cost_aside: float = 0.0

    @classmethod
    def of(cls, runtime: Runtime) -> "Spending":
        return cls(runtime.max_tokens, runtime.max_cost, dict(runtime.prices))

    def price(self, model: str, read: int, written: int) -> float:
        """What so many tokens cost; 0 of a model that has no price."""
        price = self.prices.get(model)
        return (read * price.input + written * price.output) / MILLION if price else 0.0

    def check(self, model: str) -> None:
        """Raises UserError where a limit on the cost stands and the model has no price."""
        if self.max_cost is not None and model not in self.prices:
            raise UserError(
                f'there is a limit on the cost, and no price of "{model}"',
                "runtime.max_cost",
                f"add runtime.prices: {{{model}: {{input: 0.1, output: 0.4}}}}, of a million tokens (0: free)",
            )

    def set_aside(self, model: str, read: int, written: int) -> None:
        """Raises Spent where the request could pass a limit; it is then not to be sent."""
        cost = self.price(model, read, written)
        self.hold(read + written, cost)
        self.tokens_aside += read + written
        self.cost_aside += cost

    def hold(self, tokens: int = 0, cost: float = 0.0) -> None:
        """Raises Spent where so much more, beside what is spent and set aside, would pass a limit."""
        if self.max_tokens is not None and self.read + self.written + self.tokens_aside + tokens > self.max_tokens:
            raise Spent("max_tokens", self.max_tokens)
        if self.max_cost is not None and self.cost + self.cost_aside + cost > self.max_cost:
            raise Spent("max_cost", self.max_cost)

    def give_back(self, model: str, read: int, written: int) -> None:
        """What was set aside for a request that is over."""
        self.tokens_aside -= read + written
        self.cost_aside -= self.price(model, read, written)

    def took(self, model: str, read: int, written: int) -> None:
        self.read += read
        self.written += written
        self.cost += self.price(model, read, written)

    def meter(self, time: Callable[[], float] = time.monotonic) -> Callable[[], str]:
        """Tells what was read and written a second from now on, and what it has cost since: beside a progress bar."""
        began, read, written, cost = time(), self.read, self.written, self.cost

        def tell() -> str:
            seconds = max(time() - began, 1e-3)
            reads, writes = (self.read - read) / seconds, (self.written - written) / seconds
            rates = f"{reads:,.0f} tokens/s read, {writes:,.0f} written"
            return f"{rates}, cost {self.cost - cost:.4g}" if self.prices else rates

        return tell

    def line(self) -> str:
        """`12,345 tokens read, 678 written, cost 0.02`."""
        cost = f", cost {self.cost:.4g}" if self.prices else ""
        return f"{self.read:,} tokens read, {self.written:,} written{cost}"
