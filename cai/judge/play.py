"""Games: the judge decides which of two policies answered the same held-out prompt better."""

from pathlib import Path

from cai.core.draws import identity
from cai.core.records import Abstained, Label, Pair, Prompt, Response, read_jsonl, write_jsonl
from cai.core.store import Artifact, version
from cai.judge.asked import AskedJudge
from cai.judge.asking import judge_pairs
from cai.models.workbench import Workbench


@version(3)
def play(
    out: Path, work: Workbench, *, prompts: Artifact, first: Artifact, second: Artifact, judge: AskedJudge
) -> None:  # fmt: skip
    """games.jsonl: P(the first policy's answer is better) for each prompt that both answered; abstained.jsonl.

    An answer without a word loses to one with words; two of them are a draw.
    The pair's "a" is the first policy's answer; methods that show both ask in both orders.
    """
    ours = {row.prompt_id: row.text for row in read_jsonl(first / "responses.jsonl", Response)}
    theirs = {row.prompt_id: row.text for row in read_jsonl(second / "responses.jsonl", Response)}
    pairs = [
        Pair(identity("game", prompt.id, a := ours[prompt.id], b := theirs[prompt.id]), prompt, a, b)
        for prompt in read_jsonl(prompts / "prompts.jsonl", Prompt)
        if prompt.id in ours and prompt.id in theirs
    ]
    # The same words from both policies are a draw by definition, and no judge need be asked.
    same = {pair.id for pair in pairs if pair.a.strip() == pair.b.strip()}
    differ = [pair for pair in pairs if pair.id not in same]
    verdicts = judge_pairs(judge.engine(work), differ, judge, title="judge the games")
    games = {pair.id: Label(pair.id, 0.5, "same answer") for pair in pairs if pair.id in same}
    games |= {verdict.pair_id: verdict for verdict in verdicts if isinstance(verdict, Label)}
    by_game = {pair.id: pair.prompt.id for pair in pairs}
    # From here on a game is known by its prompt: that is how it is paired with the other arms' games.
    write_jsonl(out / "games.jsonl", [Label(by_game[key], g.p_a, g.source, g.votes) for key, g in games.items()])
    abstained = [verdict for verdict in verdicts if isinstance(verdict, Abstained)]
    write_jsonl(out / "abstained.jsonl", [Abstained(by_game[a.pair_id], a.reason, a.votes) for a in abstained])
