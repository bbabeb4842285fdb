"""Talk to one or two policies of a finished run: `python -m cai.chat RUN --arm ai --arm human`.

RUN is a name under runs/, or a folder. Below the answers stand their rewards under the arms' reward models and what the
evaluation's judge says of them. What is typed is said to every policy; lines that begin with / are commands (/help).
Nothing is written but what /save appends, by default to chat.jsonl in the run's folder: pairs to label, for
`python -m cai.annotate FILE` and for `data.source`.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cai.core.errors import UserError, run_main, suggest

if TYPE_CHECKING:
    from cai.chat.screen import Screen
    from cai.chat.talk import Exchange, Talk

HELP = """/save [a|b|tie]   save the two answers as a pair to label; with a letter, as one that you have judged
/use a|b          the conversation goes on with this answer (unless you say so: the first policy's)
/regenerate       the same again, with other draws
/system [TEXT]    the system message from the next turn on; without a text, what each policy was trained under
/reset            begin a new conversation
/quit             end (Ctrl-D as well). Ctrl-C ends an answer, and not the program
A line that ends with a backslash goes on in the next; one that begins with // is said, with one /.
Rewards of two reward models are on two scales: compare answers under one of them."""
COMMANDS = ("/save", "/use", "/regenerate", "/system", "/reset", "/quit", "/help")


def main(argv: Sequence[str]) -> int:
    args = _parser().parse_args(argv)
    _check_numbers(args)
    from cai.chat.policies import Wanted, find_party, find_run  # pydantic: not for --help
    from cai.chat.saved import check_saved
    from cai.models.workbench import Workbench, check_device

    run = find_run(args.run)
    out = args.out or run.home / "chat.jsonl"
    check_saved(out)
    if args.device:
        check_device(args.device, "--device")
    with tempfile.TemporaryDirectory() as room:  # what models are asked here is no part of the run
        changed = {"root": room} | ({"device": args.device} if args.device else {})
        work = Workbench.open(run.experiment.runtime.model_copy(update=changed))
        wanted = Wanted(args.arm, args.policy, args.seed, not args.no_judge)
        party = find_party(run, work, wanted)
        from cai.chat.screen import Screen
        from cai.chat.talk import Talk

        sampling = type(party.sampling)(
            party.sampling.max_new_tokens if args.max_new_tokens is None else args.max_new_tokens,
            party.sampling.temperature if args.temperature is None else args.temperature,
        )
        talk = Talk(party, work, sampling, args.draws, args.own_history)
        screen = Screen(talk.names)
        screen.say(f"{run.name}: {' beside '.join(talk.names)}. /help says what can be typed", "dim")
        ChatProgram(talk, screen, out, args.rater).run()
        work.release()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cai.chat", description="Talk to one or two policies of a finished run.", epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("run", metavar="RUN", help="a name under runs/, or a folder")
    parser.add_argument(
        "--arm", action="append", default=[], metavar="NAME", help="an arm's policy; twice for two side by side "
        "(default: the first two arms)",
    )  # fmt: skip
    parser.add_argument(
        "--policy", action="append", default=[], choices=("sft", "start"), help="a policy from before the arms parted"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="which replica of the arms (default: the first)")
    parser.add_argument("--draws", type=int, default=0, metavar="N", help="seed of the answers' draws (default 0)")
    parser.add_argument("--max-new-tokens", type=int, metavar="N", help="of an answer (default: as in the evaluation)")
    parser.add_argument("--temperature", type=float, metavar="T", help="0 is greedy (default: as in the evaluation)")
    parser.add_argument("--own-history", action="store_true", help="each policy goes on from its own answers")
    parser.add_argument("--no-judge", action="store_true", help="rewards alone")
    parser.add_argument("--out", type=Path, metavar="FILE", help="where /save appends (default: RUN/chat.jsonl)")
    parser.add_argument("--rater", default="chat", metavar="NAME", help="whose judgements /save a, b or tie are")
    parser.add_argument("--device", metavar="DEVICE", help="auto, cpu, cuda, ... (default: as the run had it)")
    return parser


def _check_numbers(args: argparse.Namespace) -> None:
    if args.max_new_tokens is not None and args.max_new_tokens < 1:
        raise UserError(f"an answer of {args.max_new_tokens} tokens", "--max-new-tokens", "give 1 or more")
    if args.temperature is not None and not 0 <= args.temperature <= 100:
        raise UserError(f"a temperature of {args.temperature:g}", "--temperature", "give 0 (greedy) or more")
    if not args.rater.strip():
        raise UserError("a rater needs a name", "--rater", "give one")


class ChatProgram:
    """The loop: what is typed, until /quit or the end of the input. A fault is told and ends nothing."""

    def __init__(self, talk: "Talk", screen: "Screen", out: Path, rater: str) -> None:
        self.talk, self.screen, self.out, self.rater = talk, screen, out, rater

    def run(self) -> None:
        from cai.chat.talk import as_text

        going = True
        while going:
            try:
                line = self.screen.read()
                going = line is not None and self._take(as_text([line]))
            except KeyboardInterrupt:
                self.screen.say("\n(Ctrl-C ends an answer; /quit ends the program)", "dim")
            except UserError as error:
                self.screen.say(f"error: {error}")

    def _take(self, line: str) -> bool:
        """What one line asks for; False where it ends the program."""
        if not line:
            return True
        if line.startswith("/") and not line.startswith("//"):
            return self._command(*line.split(maxsplit=1))
        self._turn(lambda show: self.talk.say(line[1:] if line.startswith("//") else line, show))
        return True

    def _turn(self, make: Any) -> None:
        with self.screen.answers() as show:
            turn: Exchange = make(show)
        self.screen.settled(turn.answers, self.talk.sampling.max_new_tokens)
        try:
            judge = self.talk.party.judge
            self.screen.scores(self.talk.scores(), f"judge ({judge.model.name})" if judge else "")
        except KeyboardInterrupt:
            self.screen.say("(not scored)", "dim")

    def _command(self, command: str, rest: str = "") -> bool:
        rest = rest.strip()
        if command not in COMMANDS:
            raise UserError(f"there is no command {command}", "", f"{suggest(command, COMMANDS)} (// says a /)")
        if rest and command not in ("/save", "/use", "/system"):
            raise UserError(f"{command} takes nothing behind it", "", f"write {command} alone")
        if command == "/save":
            self._save(rest)
        elif command == "/use":
            self._use(rest)
        elif command == "/system":
            self.talk.system = rest or None
            self.screen.say(f"system message: {rest or 'what each policy was trained under'}", "dim")
        elif command == "/regenerate":
            self._turn(self.talk.again)
        elif command == "/reset":
            self.talk.reset()
            self.screen.say("a new conversation", "dim")
        elif command == "/help":
            self.screen.say(HELP)
        return command != "/quit"

    def _save(self, preferred: str) -> None:
        from cai.chat.saved import PREFERRED, save

        if preferred and preferred not in PREFERRED:
            raise UserError(
                f'"{preferred}" is none of the answers', "/save", "write /save, /save a, /save b or /save tie"
            )
        what = save(self.talk.turn, self.talk.names, preferred or None, self.rater, self.out)
        if preferred in ("a", "b") and not self.talk.own:
            self.talk.use("ab".index(preferred))
            what += ", and the conversation goes on with it"
        self.screen.say(f"saved to {self.out}: {what}", "dim")

    def _use(self, letter: str) -> None:
        if letter not in ("a", "b"):
            raise UserError(f'"{letter}" is none of the answers', "/use", "write /use a, or /use b")
        self.talk.use("ab".index(letter))
        self.screen.say(f"the conversation goes on with {self.talk.names['ab'.index(letter)]}", "dim")


if __name__ == "__main__":
    sys.exit(run_main(main))
