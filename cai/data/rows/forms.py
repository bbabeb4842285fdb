"""What a row is, by its fields: which family reads it, or the name under which it is refused.

A row is taken for a bare prompt only where no column of it looks like an answer or a judgement: what people said is
never dropped in silence.
"""

import re
from collections.abc import Mapping
from typing import Any

from cai.core.errors import UserError
from cai.data.rows import evaluation, pairs, several, trees, truthful, versus
from cai.data.rows.prompts import about, asked_of
from cai.data.rows.records import FileRow, Node, ScoredAnswer
from cai.data.rows.values import given

FORMS = (
    "prompt + chosen + rejected, chosen + rejected, prompt + a + b + human, answers + ranking (or ratings, or thumbs), "
    "two numbered answers and the better one, a rated answer a row, question + correct and incorrect answers, or "
    "prompt + corrects + incorrects"
)
# Exports that are not read, by the fields that tell them -> (name, remedy).
_REFUSED: tuple[tuple[frozenset[str], str, str], ...] = tuple(
    (frozenset(fields.split()), name, remedy)
    for fields, name, remedy in (
        ("data annotations", "a Label Studio export", 'export it as CSV or JSON-MIN, and rename its columns: "prompt", '
         '"a", "b" and "human" (1 where a was chosen)'),
        ("data predictions", "a Label Studio task", "export the annotations as CSV, with prompt, a, b and human"),
        ("fields responses", "an Argilla record", "export it by to_datasets(), as prompt, chosen and rejected"),
        ("custom_id response", "a batch of OpenAI's", "take the answers out of it: prompt, a, b and human"),
        ("doc resps", "a log of lm-eval", "give the comparisons themselves: prompt, a, b and human"),
        ("info summaries choice", "Learning to Summarize's comparisons", "write them as prompt, a, b and human"),
        ("prompt completions labels", "stepwise supervision, where steps are right or wrong", "it compares no answers"),
        ("row_labels doc_id", "a table of a spreadsheet", "write it as prompt, a, b and human"),
        ("mapping current_node", "an export of ChatGPT's conversations", "write each as a list of messages"),
        ("pair_id choice", "a label, not a pair", "name this file in `labels: {default: human, file: FILE}`"),
        ("pair_id p_a", "a label, not a pair", "name this file in `labels: {default: human, file: FILE}`"),
    )
)  # fmt: skip
_SIGNS = re.compile(
    r"(?:.*_)?(?:labels?|preferences?|preferred\w*|winner\w*|better\w*|safer\w*|choice|chosen|rejected|verdict|rank\w*"
    r"|ratings?|scores?|judge?ments?|annotations?|human(?!_prompt)\w*|votes?|thumbs?|rewards?"
    r"|responses?|answers?|completions?|outputs?|repl(?:y|ies)|generations?|corrects?|incorrects?|targets?|solutions?)"
    r"(?:_?\w)?|is_safe|helpfulness|harmlessness|text_\w",
    re.IGNORECASE,
)


def read_row(row: Any) -> list[FileRow | ScoredAnswer | Node]:
    """What a row says; no item for one that was taken back. Raises UserError naming why it cannot be used."""
    if not isinstance(row, Mapping):
        raise UserError("a row must be a JSON object", "", 'for example {"prompt": "..."}')
    if trees.reads_tree(row):
        return list(trees.read_tree(row))
    if trees.reads_message(row):
        node = trees.read_message(row)
        return [node] if node else []
    if evaluation.reads(row):
        return [evaluation.read(row)]
    if truthful.reads(row):
        return [truthful.read(row)]
    if pairs.reads(row):
        return [pairs.read(row)]
    if versus.reads(row):
        return [versus.read(row)]
    if several.reads_list(row):
        return [several.read_list(row)]
    for fields, name, remedy in _REFUSED:
        if fields <= set(row):
            raise UserError(f"this is {name}, which is not read", "", remedy)
    return [several.read_single(row)] if several.reads_single(row) else [_bare(row)]


def _bare(row: Mapping) -> FileRow:
    """A prompt and nothing else."""
    name = next((name for name in ("prompt", "messages", "conversations") if name in row), None)
    if name is None:
        problem = (
            f"not a comparison: its fields are {', '.join(map(str, row)) or 'none'}; and no prompt either: "
            "a row needs `prompt` (a text) or `messages` (a list)"
        )
        raise UserError(problem, "", f"a row needs {FORMS}; or `prompt` alone")
    signs = [f"`{name}`" for name in row if _SIGNS.fullmatch(str(name)) and given(row[name])]
    if signs:
        problem = f"answers or judgements that are not read: {', '.join(signs)}"
        raise UserError(problem, "", f"a row needs {FORMS}; drop these columns where the prompts alone are wanted")
    return FileRow("prompt", asked_of(row, ("prompt", "messages", "conversations")), **about(row, named=True))
