"""`python -m cai.constitution lint|import|diff|revise|infer|publics`: tools for the people who write constitutions."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cai.config.methods import NAMES
from cai.constitution import Constitution, read_constitution
from cai.constitution.arguments import MODEL, add_infer, add_publics, add_revise, count, positive
from cai.constitution.changes import Change, as_json, changes, headline, show
from cai.constitution.lint import Warnings, describe, long_for_model, unknown_subsets, warnings
from cai.constitution.paper import import_paper
from cai.core.errors import UserError, run_main, some

if TYPE_CHECKING:
    from cai.core.records import Pair  # needs pydantic, which takes longer to load than a lint

T = TypeVar("T")
METHODS = tuple(name for name in NAMES if name not in ("check", "provenance", "rubric"))  # those ask about no principle
KIND = "edits of this kind"
PLACEBO = "in place of the shipped texts about other things, by which it is told whether the judge follows an edit"


def main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    return args.run(args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m cai.constitution", description="Tools for constitution files.")
    commands = parser.add_subparsers(dest="command", required=True)
    lint = commands.add_parser("lint", help="check a constitution and show what was understood")
    lint.add_argument("file", help="a constitution, such as constitutions/harmless.txt")
    lint.add_argument("--model", help="count tokens as this model does")
    lint.add_argument("--max-length", type=positive, default=1024, help="tokens of one question to the judge (1024)")
    lint.add_argument("--pairs", type=Path, help="judge these pairs by every principle: which ones decide nothing?")
    lint.add_argument("--placebo", action="append", default=[], metavar="FILE", help=PLACEBO)
    lint.add_argument("--cache", default="runs", metavar="FOLDER", help="where the judge's answers are kept")
    lint.set_defaults(run=_lint)
    paper = commands.add_parser("import", help="turn the principles published with the paper (JSON) into our text form")
    paper.add_argument("files", nargs="+", type=Path, metavar="FILE", help="the paper's JSON files, one or both")
    paper.add_argument("--out", type=Path, help="the file to write (default: print the text)")
    paper.set_defaults(run=_import)
    diff = commands.add_parser(
        "diff", help="what a change of the constitution changes: its text, and which labels flip"
    )
    diff.add_argument("old", help="the constitution as it was")
    diff.add_argument("new", help="the constitution as it is now")
    diff.add_argument("--pairs", type=Path, help="judge these pairs by both (default: compare the texts alone)")
    diff.add_argument("--model", default=MODEL, help=f"the judge ({MODEL})")
    diff.add_argument("--method", choices=METHODS, default="rate", help="how it is asked (rate)")
    diff.add_argument("--placebo", action="append", default=[], metavar="FILE", help=PLACEBO)
    diff.add_argument("--cache", default="runs", metavar="FOLDER", help="where the judge's answers are kept")
    diff.add_argument("--examples", type=count, default=3, metavar="N", help="labels to show, flipped ones first (3)")
    diff.add_argument("--json", action="store_true", help="print everything, each pair among it, as JSON")
    diff.set_defaults(run=_diff)
    add_revise(commands).set_defaults(run=_revise)
    add_infer(commands).set_defaults(run=_infer)
    add_publics(commands).set_defaults(run=_publics)
    return parser


# 1. lint ------------------------------------------------------------------------------------------------------------


def _lint(args: argparse.Namespace) -> int:
    constitution = read_constitution(args.file)
    print(describe(constitution))
    faults = warnings(constitution, by_words=not (args.model or args.pairs))
    if args.model or args.pairs:
        faults += _token_warnings(constitution, args.model or MODEL, args.max_length)
    if args.pairs:
        faults += _trial(constitution, args)
    for line, text in sorted(faults):
        print(f"warning: {constitution.path}:{line}: {text}")
    print(f"\nno faults, {len(faults)} warning{'' if len(faults) == 1 else 's'}")
    return 0


def _token_warnings(constitution: Constitution, model: str, max_length: int) -> Warnings:
    from cai.models.loading import load_tokenizer
    from cai.models.references import find

    tokenizer = load_tokenizer(find(model))

    def count(text: str) -> int:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    return long_for_model(constitution, count, min(max_length, tokenizer.model_max_length))


def _trial(constitution: Constitution, args: argparse.Namespace) -> Warnings:
    """Judge the pairs by every principle, print what each did, and return what looks idle."""
    from cai.judge.following import UNREAD, fair_controls, following, sentence
    from cai.judge.trial import idle, judge_all, open_court, table, track_records

    model, pairs = args.model or MODEL, _read(args.pairs)
    asked = bool(constitution.judging)  # else a program checks them all
    controls, noted = fair_controls(constitution, pairs, args.placebo) if asked else (None, [])
    court = open_court(model, max_length=args.max_length, root=args.cache)
    print(f"\njudging {len(pairs)} pairs by {len(constitution.principles)} principles with {model}", file=sys.stderr)
    labels = judge_all(court.engine, pairs, constitution, court.judge)
    records = track_records(constitution, labels)
    print(f"\n{len(pairs)} pairs judged by {model}, method rate ({court.in_words()})")
    print("and the same pairs under negated principles and under placebos", file=sys.stderr)
    print(
        sentence(following(court, pairs, constitution, controls) if controls else UNREAD, "edits of these principles")
    )
    for note in noted:
        print(f"note: {note}")
    print(f"{table(records)}\n")
    return unknown_subsets(constitution, (pair.prompt.subset for pair in pairs)) + idle(records)


def _read(file: Path) -> "list[Pair]":
    """The pairs of a file; the rows that are left out are named."""
    from cai.judge.trial import read_pairs

    pairs, left_out = read_pairs(file)
    if left_out:
        print(f"left out: {some([f'{where}: {why}' for where, why in left_out])}", file=sys.stderr)
    return pairs


# 2. import ----------------------------------------------------------------------------------------------------------


def _import(args: argparse.Namespace) -> int:
    text, constitution = import_paper(args.files)
    if args.out is None:
        print(text, end="")
        return 0
    if args.out.exists():
        raise UserError("this file exists already", str(args.out), "remove it first, or give another name")
    try:
        args.out.write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise UserError(f"cannot write it: {error.strerror}", str(args.out), "give a folder that exists") from None
    assert read_constitution(args.out).principles == constitution.principles
    print(
        f"{args.out}: {constitution.form} form, {len(constitution.principles)} principles, read back and found the same"
    )
    return 0


# 3. diff ------------------------------------------------------------------------------------------------------------


def _diff(args: argparse.Namespace) -> int:
    old, new = read_constitution(args.old), read_constitution(args.new)
    changed = changes(old, new)
    report = {"old": args.old, "new": args.new, "changes": [as_json(change) for change in changed]}
    if not args.json:
        print(f"{args.old} -> {args.new}: {headline(changed)}")
        for change in changed:
            print(show(change))
    if args.pairs:
        report |= _flips(args, old, new, changed)
    if args.json:
        print(json.dumps(report, ensure_ascii=False, indent=1))
    return 0


def _flips(args: argparse.Namespace, old: Constitution, new: Constitution, changed: list[Change]) -> dict:
    """Judge the pairs by both constitutions; print the outcome, or return it for JSON."""
    from cai.judge import flips as diff
    from cai.judge.following import UNREAD, Edit, as_json, fair_controls, floor, following, sentence
    from cai.judge.trial import judge_all, open_court

    # 1. What the judge reads of the change, and what that is held against.
    pairs = _read(args.pairs)
    court = open_court(args.model, args.method, root=args.cache)
    edit = Edit(old, new, tuple(change for change in changed if diff.heard(change, court.judge.settings, old, new)))
    if not edit.changes:
        if not args.json:
            print("\nnothing that this judge reads has changed: no label can flip, and nothing was asked")
        return {"pairs": len(pairs), "labels": None}
    texts = [change for change in edit.changes if diff.heard_as_text(change, court.judge.settings, old, new)]
    asked = Edit(old, new, tuple(texts))  # what is left has a check alone, which no judge follows
    controls, noted = fair_controls(asked.tested, pairs, args.placebo) if texts else (None, [])

    # 2. Ask: both constitutions, then the controls.
    calls: dict[str, dict[str, int]] = {}

    def counted(name: str, what: str, work: Callable[[], T]) -> T:
        print(f"judging {len(pairs)} pairs by {what}", file=sys.stderr)
        asked, in_cache = court.engine.asked, court.engine.found
        made = work()
        calls[name] = {"asked": court.engine.asked - asked, "found": court.engine.found - in_cache}
        return made

    verdicts = [
        counted(name, str(constitution.path), partial(judge_all, court.engine, pairs, constitution, court.judge))
        for name, constitution in (("old", old), ("new", new))
    ]
    follows, than = counted(
        "controls", "negations and placebos",
        lambda: (following(court, pairs, asked.tested, controls, noted),
                 floor(court, pairs, asked, controls.placebos, verdicts)) if controls else (UNREAD, None),
    )  # fmt: skip

    # 3. Say whether the judge follows such an edit, and then what flips.
    outcome = diff.compare(pairs, verdicts, Edit(old, new, tuple(changed)), court.judge.settings, args.examples)
    if not args.json:
        prompts = len({pair.prompt.id for pair in pairs})
        print(f"\n{len(pairs)} pairs of {prompts} prompts, judged by {args.model}, method {args.method}")
        for n, what in zip(calls.values(), (old.path, new.path, "negations and placebos"), strict=True):
            print(f"calls for {what}: {n['asked']} asked, {n['found']} found in {court.calls}")
        print(sentence(follows, KIND, than))
        for note in noted:
            print(f"note: {note}")
        print(diff.show(outcome, than))
    labels = {"model": args.model, "method": args.method, "calls": calls, "follows": as_json(follows, KIND, than)}
    return {"pairs": len(pairs), "labels": labels | diff.as_json(outcome)}


# 4. revise ----------------------------------------------------------------------------------------------------------


def _revise(args: argparse.Namespace) -> int:
    from cai.train.revisions import command as revise

    return revise.run(args)


# 5. infer -----------------------------------------------------------------------------------------------------------


def _infer(args: argparse.Namespace) -> int:
    from cai.judge.inferring import command as infer

    if not (run := _run_of(args.source)):
        if args.arm:
            raise UserError("only a finished run has arms", "--arm", "leave it out, or name a run's folder")
        return infer.run(args)
    from cai.chat.policies import find_run
    from cai.experiment.choices import matter_of

    infer.check_arguments(args)
    return infer.run(args, matter_of(find_run(run), args.arm, args.test))


# 6. publics ---------------------------------------------------------------------------------------------------------


def _publics(args: argparse.Namespace) -> int:
    from cai.judge.inferring import publics

    return publics.run(args)


def _run_of(source: str) -> str:
    """The source where it is a run: a folder, or a name under runs/ that is no file here; "" where it is none."""
    return source if Path(source).is_dir() or (not Path(source).exists() and Path("runs", source).is_dir()) else ""


if __name__ == "__main__":
    sys.exit(run_main(main))
