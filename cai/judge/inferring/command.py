"""`python -m cai.constitution infer LABELS_OR_RUN`: which principles explain these labels, or this policy's choices?

    labels  ->  candidates  ->  votes of every candidate on every pair  ->  selection  ->  a constitution, a table, JSON

What is selected, and how it is tested, is in cai/stats/selection.py. Progress goes to stderr, results to stdout;
whatever was asked before comes from the call cache, so a run that was stopped goes on.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cai.config.sections import Judge
from cai.core.errors import UserError, suggest
from cai.core.odds import logit
from cai.core.places import check_file
from cai.core.records import Abstained, Estimate, Pair, plain
from cai.core.templates import load_template
from cai.data.annotated import annotated_pairs, key_of_pair, principle_votes
from cai.judge.asked import AskedJudge
from cai.judge.asking import JudgeEngine, judge_pairs
from cai.judge.common import check_machine, malformed, open_judge, server_of
from cai.judge.inferring.candidates import Candidate, candidates, decoy_sentences, merged, plain_principle
from cai.judge.inferring.labelled import LabelledPairs, from_file, only, sampled
from cai.judge.inferring.proposing import propose, set_apart, wrongly_ranked
from cai.judge.inferring.voting import VoteTable, cast_votes
from cai.judge.methods import ASKING, name_of
from cai.models.references import model_of

NOBODY = "none"


@dataclass(frozen=True, slots=True)
class Matter:
    """What is to be explained. sets: over which the same candidates vote; the last one is written down. text: the
    constitution that a run was made with; judge: who labelled there. faults: rows of a file that were left out.
    notes: sets that were left out, and why. stored: the votes that a run's labelling left, by the text's principles.
    """

    name: str
    sets: tuple[LabelledPairs, ...]
    text: Path | None = None
    judge: Judge | None = None
    faults: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()
    stored: VoteTable | None = None


@dataclass(frozen=True, slots=True)
class AskedByAll:
    """A judge that is asked by every candidate, and what asks it."""

    engine: JudgeEngine
    judge: AskedJudge

    def __str__(self) -> str:
        return f"{self.judge.model.name}, method {name_of(self.judge.settings.method)}"


def run(args: argparse.Namespace, matter: Matter | None = None) -> int:
    """matter: of a finished run; None reads LABELS_OR_RUN as labels."""
    # 1. Everything that can be wrong is found before a model is loaded.
    check_arguments(args)
    settings = settings_for(args, matter)
    if matter is None:
        labels, faults = from_file(args.source, args.test)
        matter = Matter(args.source, (labels,), faults=faults)
    matter = replace(matter, sets=tuple(sampled(each, args.limit, args.draw) for each in matter.sets))
    if args.as_annotated:
        return _as_annotated(args, matter)
    pairs = [pair for each in matter.sets for pair in each.pairs]
    files = [*([str(matter.text)] if matter.text else []), *args.constitution]
    rows = candidates([*files, *([] if args.bank == NOBODY else [args.bank])], decoy_sentences(pairs, args.decoys, 0))
    template = load_template("propose") if args.propose else None
    source = model_of(settings)
    check_machine(args)

    # 2. Ask: every candidate, then those that a model proposes.
    engine, dtype, _ = open_judge(args, source)
    asked = AskedByAll(engine, AskedJudge(settings, source, (), {}, dtype, args.draw))
    distinct = len({pair.id for pair in pairs})
    print(f"{len(rows)} candidates vote on {distinct} pairs: {asked}", file=sys.stderr, flush=True)
    table = cast_votes(engine, pairs, asked.judge, rows, "votes of the candidates")
    notes: list[str] = []
    if template:
        last, proposer = matter.sets[-1], _proposer(args, engine)
        apart, others = set_apart(last, args.draw)
        new, notes = _proposed(args, (last, apart), table, rows, (proposer, template))
        matter = replace(matter, sets=(*matter.sets[:-1], only(last, others)))
        rows = [*rows, *new]
        table = cast_votes(engine, pairs, asked.judge, rows, "votes of the proposed") if new else table

    # 3. Explain, write down, ask anew by what is written, and tell.
    return _tell(args, matter, table, rows, notes, asked)


def _tell(
    args: argparse.Namespace, matter: Matter, table: VoteTable, rows: Sequence[Candidate], notes: list[str],
    asked: AskedByAll | None,
) -> int:  # fmt: skip
    from cai.judge.inferring.inference import infer  # numpy: only now
    from cai.judge.inferring.page import page, share, side_by_side
    from cai.judge.inferring.written import written

    inferences = [infer(each, table, rows, alpha=args.alpha, most=args.most) for each in matter.sets]
    text, unwritten = written(inferences[-1], rows, str(asked or "the votes that stand in the file"))
    again = relabelled(text, matter.sets[-1], asked) if asked and text else {}
    notes = [
        *notes,
        *(f'"{name}" cannot be turned round, and is not written: it has no opposite' for name in unwritten),
    ]
    if args.out and text:
        args.out.write_text(text, encoding="utf-8", newline="\n")
    elif args.out:
        notes.append(f"nothing is written to {args.out}: no principle explains the labels")
    if args.annotated:
        args.annotated.write_text(json.dumps(annotated(matter.sets[-1], table, rows), ensure_ascii=False, indent=1))
    if args.json:
        given = {key: value for key, value in vars(args).items() if key not in ("run", "command", "json")}
        given = {key: str(value) if isinstance(value, Path) else value for key, value in given.items()}
        report = given | {"judge": str(asked) if asked else None, "sets": inferences, "text": text}
        report |= {"relabelled": again, "notes": notes, "malformed": matter.faults}
        print(json.dumps(plain(report), ensure_ascii=False, indent=1))
        return 0
    for of in inferences:
        print("\n".join([*page(of), ""]))
    if matter.text:
        print("\n".join([*side_by_side(inferences, rows, matter.text.stem), ""]))
    for name, estimate in again.items():
        print(f"{name}: {share(estimate)}")
    for note in notes:
        print(f"note: {note}")
    if matter.faults:
        print("\n".join(malformed(matter.faults)))
    print(f"written: {args.out}" if args.out and text else f"\n{text}" if text and not matter.text else "", end="\n")
    return 0


# The parts ------------------------------------------------------------------------------------------------------------


def check_arguments(args: argparse.Namespace) -> None:
    """Raises UserError for what cannot be done, whatever the labels are."""
    if args.method and args.method not in ASKING:
        problem = f'no judge can be asked by the method "{args.method}"'
        raise UserError(problem, "--method", suggest(args.method, ASKING))
    if args.as_annotated and (args.propose or args.constitution):
        problem = "the votes that stand in a file are those of its own principles"
        raise UserError(problem, "--as-annotated", "leave --propose and --constitution out, or have a judge asked")
    for file, suffix, option in ((args.out, ".txt", "--out"), (args.annotated, ".json", "--annotated")):
        if file and file.suffix != suffix:
            raise UserError(f"this is a {suffix} file, not {file}", option, "name one")
        if file and file.exists():
            raise UserError("this file exists already", str(file), "remove it first, or give another name")
        if file:
            check_file(file, "name a file that can be written")


def settings_for(args: argparse.Namespace, matter: Matter | None) -> Judge:
    """The judge of the command line, or of the run where nothing else is said; asked by all principles, and shown no
    examples: it is to go by a principle's text."""
    mine = {"principles": "all", "max_length": args.max_length, "method": args.method, "model": args.model}
    mine["server"] = server_of(args)
    given = {key: value for key, value in mine.items() if value is not None}
    if matter and matter.judge and args.model is None:
        settings = matter.judge.model_copy(update={**given, "shots": 0})
        if settings.method == "auto" or "provenance" in settings.method or "rubric" in settings.method:
            problem = f"the run's judge was asked by {name_of(settings.method)}, which does not name one way to ask"
            raise UserError(problem, matter.name, "name a --method, such as channel or rate")
        return settings
    return Judge.model_validate({"model": "smollm2-135m-judge", "method": "channel", "max_length": 1024} | given)


def _proposer(args: argparse.Namespace, engine: JudgeEngine) -> JudgeEngine:
    return open_judge(args, model_of(Judge(model=args.proposer)))[0] if args.proposer else engine


def _proposed(
    args: argparse.Namespace, part: tuple[LabelledPairs, frozenset[int]], table: VoteTable, rows: list[Candidate],
    by: tuple[JudgeEngine, Any],
) -> tuple[list[Candidate], list[str]]:  # fmt: skip
    """(new candidates, notes): from the pairs set apart that what is selected on these ranks wrongly."""
    from cai.stats.selection import select_voters  # numpy: only now

    of, apart = part
    on = sorted(apart)
    chosen = select_voters(
        table.rows([of.pairs[at] for at in on]), [of.p_a[at] for at in on], [of.clusters[at] for at in on],
        alpha=args.alpha, most=args.most,
    )  # fmt: skip
    wrong = wrongly_ranked(of, apart, table, chosen.weights)
    new, unread = propose(
        by[0], by[1], [(of.pairs[at], of.p_a[at]) for at in wrong], rows, count=args.propose, seed=args.draw
    )
    return new, [f"{len(new)} principles proposed from {len(wrong)} of {len(on)} pairs set apart for it, which take no "
                 f"part in the selection; {unread} replies were no principle"]  # fmt: skip


def relabelled(text: str, of: LabelledPairs, asked: AskedByAll) -> dict[str, Estimate]:
    """Held-out pairs labelled anew by what was written: how often the judge then says what the labels say."""
    from cai.judge.inferring.inference import agreement
    from cai.judge.inferring.written import read_back

    judge = asked.judge.under(read_back(text, Path("read back")))
    rows = [at for at in range(len(of.pairs)) if of.held_out[at]]
    verdicts = judge_pairs(asked.engine, [of.pairs[at] for at in rows], judge, title="label anew")
    odds = [float("nan") if isinstance(each, Abstained) else logit(each.p_a) for each in verdicts]
    labels, clusters = [of.p_a[at] for at in rows], [of.clusters[at] for at in rows]
    return {"held-out pairs labelled anew by what is written agree with the labels": agreement(odds, labels, clusters)}


def annotated(of: LabelledPairs, table: VoteTable, rows: Sequence[Candidate]) -> dict[str, Any]:
    """The set and the votes of all candidates as ICAI's annotated pairs."""
    votes = {
        row.principle.prefer or row.name: [table.odds[pair.id][k] for pair in of.pairs] for k, row in enumerate(rows)
    }
    return annotated_pairs(of.name, of.pairs, of.p_a, votes)


def _as_annotated(args: argparse.Namespace, matter: Matter) -> int:
    """Nobody is asked. The principles that annotate the file (ICAI's annotated pairs) are the candidates, with the
    votes given there; of a run those of its text, with the votes that its labelling left: each where it was drawn."""
    if matter.text:
        if matter.stored is None:
            problem = "no judge has labelled in this arm, so its store holds no votes"
            raise UserError(problem, "--as-annotated", "name an --arm with labels: ai, or leave it out")
        rows = candidates([str(matter.text)])
        sets = tuple(of for of in matter.sets if all(pair.id in matter.stored.odds for pair in of.pairs))
        return _tell(args, replace(matter, sets=sets), matter.stored, rows, [], None)
    texts, votes = principle_votes(Path(args.source))
    rows = merged([], (Candidate(plain_principle(text), "file") for text in texts))
    odds = {pair.id: _votes_of(pair, votes, rows) for of in matter.sets for pair in of.pairs}
    table = VoteTable(tuple(row.name for row in rows), odds, frozenset())
    return _tell(args, matter, table, rows, [], None)


def _votes_of(pair: Pair, votes: dict[str, dict[str, float]], rows: Sequence[Candidate]) -> tuple[float, ...]:
    mine = votes.get(key_of_pair(pair), {})
    return tuple(mine.get(row.principle.prefer, float("nan")) for row in rows)
