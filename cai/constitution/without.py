"""A constitution less one of its principles, for an arm with `without: NAME`.

Nothing is copied: the file stays as it is, and the text of the smaller constitution is the file's less the lines of the
principle. The draw of principles for a prompt is a rendezvous hash (drawing.py): where the principle had not been
drawn, the same ones are drawn without it, and where it had, the others stay and the next in line takes its place. So
only questions about what took its place are asked, and the rest comes from the call cache.
"""

from dataclasses import replace

from cai.constitution.parse import parse
from cai.constitution.records import Constitution
from cai.core.errors import UserError, suggest

KEY = "without"


def less(constitution: Constitution, name: str | None) -> Constitution:
    """The constitution less one principle, or as it is for None. Raises UserError where there is no such principle, or
    no other one."""
    if name is None:
        return constitution
    lines, rows = {p.line: p for p in constitution.principles}, constitution.text.split("\n")
    names = [p.name for p in constitution.principles]
    if name not in names:
        raise UserError(f'no principle of {constitution.path} is called "{name}"', KEY, suggest(name, names))
    if len(names) == 1:
        raise UserError(f'"{name}" is the only principle of {constitution.path}', KEY, "leave it in")
    first = next(line for line, principle in lines.items() if principle.name == name)
    end = first + 1
    while end <= len(rows) and end not in lines and _belongs(rows[end - 1], constitution.form):
        end += 1
    smaller = parse("\n".join(rows[: first - 1] + rows[end - 1 :]), constitution.path)
    kept = [replace(p, line=0) for p in constitution.principles if p.name != name]
    assert [replace(p, line=0) for p in smaller.principles] == kept, f"cutting {name!r} moved another principle"
    return smaller


def _belongs(row: str, form: str) -> bool:
    """Whether a line behind a principle's first is a part of it: all of a section, or the rest of a wrapped line."""
    return form == "full" or bool(row[:1].isspace() and row.strip())
