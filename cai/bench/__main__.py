"""`python -m cai.bench NAME`: measurements of this machine, a benchmark a file."""

import argparse
import sys
from collections.abc import Sequence

from cai.bench import all as every
from cai.bench import card, labels, live, pipeline, ppo, reads, refusals, report, rerun, revise, scale, store, train
from cai.bench.common import positive
from cai.core.errors import run_main


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cai.bench", description="Benchmarks against the usual ways.")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, benchmark, text in (
        ("labels", labels, "AI labels a second, beside a pass for each question and written verdicts"),
        ("reads", reads, "what it costs to see whether a judge reads, beside one labelling of the same pairs"),
        ("ppo", ppo, "time and memory of PPO, beside the last PPOTrainer that TRL had (1.12)"),
        ("train", train, "steps of a reward model and of DPO, beside TRL's own trainers"),
        ("revise", revise, "tokens of drafts, critiques and revisions a second, beside transformers' `generate`"),
        ("rerun", rerun, "what an edit costs: an experiment run again, one principle reworded, `--plan` and lint"),
        ("live", live, "what live feedback by scripted raters teaches the policy, by each form of feedback"),
    ):
        command = commands.add_parser(name, help=text)
        benchmark.add_arguments(command)
        command.add_argument("--model", default="smollm2-135m", help="an embedded name, a folder, or a hub id")
        command.add_argument("--dtype", default="auto", choices=("auto", "float32", "bfloat16"))
        command.add_argument("--device", default="auto", help="auto, cpu, cuda, mps, ...")
        command.add_argument("--threads", type=positive, help="of the CPU (default: as many as it has)")
        command.add_argument("--json", action="store_true", help="print one JSON object instead of tables")
        command.set_defaults(run=benchmark.run)
    command = commands.add_parser("card", help="what a card reads, writes and trains a second, for random weights")
    card.add_arguments(command)
    command.set_defaults(run=card.run)
    command = commands.add_parser("all", help="everything that a card matters to, in one script under one budget")
    every.add_arguments(command)
    command.set_defaults(run=every.run)
    command = commands.add_parser("report", help="time and size of a report of many examples, and how fast it scrolls")
    report.add_arguments(command)
    command.set_defaults(run=report.run)
    command = commands.add_parser("refusals", help="how well refusals are counted, on answers that people annotated")
    refusals.add_arguments(command)
    command.set_defaults(run=refusals.run)
    for name, benchmark, text in (
        ("pipeline", pipeline, "where a finished run's time went; or a small one beside a plain script (--by-hand)"),
        ("scale", scale, "time and memory as pairs and principles grow, labelled by a judge and by people"),
        ("store", store, "a million cached calls and ten thousand stages: bytes, lookups, compaction"),
    ):
        command = commands.add_parser(name, help=text)
        benchmark.add_arguments(command)
        command.set_defaults(run=benchmark.run)
    args = parser.parse_args(argv)
    args.run(args)
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
