"""The names of the judge's methods, for `judge.method`: those of the files in cai/judge/methods/.

What a method is stands in its file, in a room below this one, so that only the names of the files are read here.
"""

from pathlib import Path

NAMES = tuple(sorted(file.stem for file in (Path(__file__).parents[1] / "judge/methods").glob("[a-z]*.py")))
SHOWN = ("rate", "choice")  # methods that can show the judge a pair with its verdict (`worked` in their files)
UNSAID = ("contrast", "channel")  # methods that ask how likely a given text is: nothing that a model could say instead
