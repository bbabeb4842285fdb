"""`python -m cai` names the programs: who does not know yet which one to ask begins here."""

PROGRAMS = {
    "experiment CONFIG.yaml": "the whole pipeline, from prompts to a report; --plan says what it would cost",
    "constitution": "look after a file of principles: lint, diff, infer from labels, import",
    "judge": "judges without policies: bench, does it read, select, train, moderate, attack",
    "annotate": "pages in which people label pairs, or teach a policy while it learns",
    "compare RUN...": "finished runs side by side; games and answers for people to rate",
    "chat RUN": "talk to what a run has trained",
    "models": "serve a model, make it smaller, export it",
    "bench": "measure this machine",
    "core": "look after the store of stages: check, gc, show",
}


def main() -> None:
    print("A constitution in plain text, an AI judge that reads it, and a controlled comparison with human labels.\n")
    for name, what in PROGRAMS.items():
        print(f"  python -m cai.{name:<23} {what}")
    print("\nBegin with: python -m cai.experiment experiments/quickstart.yaml. Each has --help.")


if __name__ == "__main__":
    main()
