"""Every kind of fault, with the literal message and line that a user sees."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Annotated, Literal

import pytest
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cai.config.tree import Tree, load_tree, merge
from cai.config.validation import Fault, load, raise_all, validate
from cai.core.errors import UserError, UserErrors

Positive = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Sft(Section):
    epochs: Positive = 1
    rate: Annotated[float, Field(gt=0)] = 1e-4
    model: str = "small"


class Ppo(Section):
    kind: Literal["ppo"]
    clip: Annotated[float, Field(ge=0, le=1)]


class Dpo(Section):
    kind: Literal["dpo"]
    beta: float = 0.1


class Source(Section):
    file: str
    rows: int = 1


class Config(Section):
    name: str = "x"
    temperature: float = 1.0
    rounds: Positive = 1
    draw: Positive | Literal["all"] = 1
    labels: Literal["ai", "human", "mixed"] = "ai"
    system: str | None = None
    fast: bool = False
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    sft: Sft = Sft()
    rl: Annotated[Ppo | Dpo, Field(discriminator="kind")] | None = None
    source: str | Source = "none"
    sources: list[Source] = []
    judges: dict[str, Sft] = {}
    limits: dict[str, int] = {}
    path: Path = Path("here")


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(text: str | bytes, name: str = "a.yaml") -> Path:
    path = Path(name)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(text: str, *overrides: str, kind=Config):
    return load(write(dedent(text)), kind, overrides)


def complaint(text: str, *overrides: str, kind=Config) -> str:
    with pytest.raises(UserError) as caught:
        read(text, *overrides, kind=kind)
    return str(caught.value)


# -- what is read ------------------------------------------------------------------------------------------------------


def test_a_whole_file():
    config = read(
        """\
        name: first
        draw: all
        seeds: [3, 4]
        rl: {kind: dpo, beta: 1}
        source:
          file: x.jsonl
        sources:
          - file: a
          - {file: b, rows: 2}
        judges:
          big: {epochs: 2}
        path: /tmp/x
        """
    )
    assert config == Config(
        name="first",
        draw="all",
        seeds=(3, 4),
        rl=Dpo(kind="dpo", beta=1.0),
        source=Source(file="x.jsonl"),
        sources=[Source(file="a"), Source(file="b", rows=2)],
        judges={"big": Sft(epochs=2)},
        path=Path("/tmp/x"),
    )
    with pytest.raises(ValidationError):
        config.name = "second"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 0.00001),
        ("1.e-4", 0.0001),
        ("1E3", 1000.0),
        ("-.5", -0.5),
        (".inf", float("inf")),
        ("-.INF", float("-inf")),
        ("12", 12),
        ("-3", -3),
        ("007", 7),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", "yes"),
        ("off", "off"),
        ("on", "on"),
        ("N", "N"),
        ("2024-01-31", "2024-01-31"),
        ("12:30:00", "12:30:00"),
        ("1_000", "1_000"),
        ("1.2.3", "1.2.3"),
        ("e5", "e5"),
        (".", "."),
        ("'12'", "12"),
        ("!!str 12", "12"),
        ("2 # note", 2),
        ("|\n  two\n  lines", "two\nlines\n"),
    ],
)
def test_scalars_of_the_core_schema(text, value):
    got = load_tree(write(f"key: {text}\n")).data["key"]
    assert got == value and type(got) is type(value)


def test_keys_are_text():
    assert load_tree(write("1: a\nyes: b\n~: c\n")).data == {"1": "a", "yes": "b", "~": "c"}


def test_a_byte_order_mark_is_no_part_of_the_first_key():
    assert load_tree(write(b"\xef\xbb\xbfname: x\n")).data == {"name": "x"}


def test_anchors_and_merge_keys():
    tree = load_tree(write("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc:\n  <<: [{x: 8}, *a]\n"))
    assert tree.data == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 8, "y": 2}}
    assert tree.where(("b",)) == "a.yaml:2"
    assert tree.where(("b", "y")) == "a.yaml:4"
    assert not tree.faults


# -- files that cannot be read -----------------------------------------------------------------------------------------


def test_missing_file_names_the_near_one():
    write("name: x", "harmless.yaml")
    with pytest.raises(UserError) as caught:
        load(Path("harmles.yaml"), Config)
    assert str(caught.value) == 'harmles.yaml: no such file\n  -> did you mean "harmless.yaml"?'


def test_missing_folder_and_empty_folder():
    with pytest.raises(UserError) as caught:
        load(Path("nowhere/a.yaml"), Config)
    assert str(caught.value) == "nowhere/a.yaml: no such file\n  -> the folder nowhere does not exist"
    with pytest.raises(UserError) as caught:
        load(Path("a.yaml"), Config)
    assert str(caught.value) == "a.yaml: no such file\n  -> there is no YAML file in ."


def test_a_folder():
    Path("a.yaml").mkdir()
    with pytest.raises(UserError) as caught:
        load(Path("a.yaml"), Config)
    assert str(caught.value) == "a.yaml: this is a folder\n  -> name a YAML file in it"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission():
    write("name: x").chmod(0)
    with pytest.raises(UserError) as caught:
        load(Path("a.yaml"), Config)
    assert str(caught.value) == "a.yaml: cannot be read: permission denied\n  -> check the path and its permissions"


def test_any_other_error_of_the_system(monkeypatch):
    def fail(self):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(UserError) as caught:
        load(Path("a.yaml"), Config)
    assert str(caught.value) == "a.yaml: cannot be read: input/output error\n  -> check the path and its permissions"


def test_not_utf8():
    with pytest.raises(UserError) as caught:
        load(write(b"name: x\nsystem: caf\xe9\n"), Config)
    assert str(caught.value) == "a.yaml:2: not UTF-8 text\n  -> save the file as UTF-8"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "the file is empty"),
        ("# only a note\n", "the file is empty"),
        ("- a\n- b\n", "the file must hold keys, not a list of 2 items"),
        ("words\n", 'the file must hold keys, not "words"'),
    ],
)
def test_top_level_must_be_a_mapping(text, problem):
    assert complaint(text) == f'a.yaml: {problem}\n  -> write lines of the form "key: value"'


@pytest.mark.parametrize(
    ("text", "line", "problem", "remedy"),
    [
        ("a:\n\tb: 1\n", 2, "a tab stands where YAML wants spaces", "use spaces instead of tabs"),
        ('a: 1\nb: "two\nc: 3\n', 2, "a quote is opened here and not closed", "close the quote"),
        ("a:\n  b: 1\n c: 2\n", 3, "this line does not line up with the ones before it",
         "indent the keys of a section alike, and check quotes and brackets above"),
        ("a: 1\n  b: 2\n", 2, 'a second ": " in one line, or a line indented too far',
         "put the text in quotes, or mend the indentation"),
        ("a: b: c\n", 1, 'a second ": " in one line, or a line indented too far',
         "put the text in quotes, or mend the indentation"),
        ("a: 1\nwords\nb: 2\n", 2, "this line is neither a key nor part of a value",
         'write "key: value", with a space after the colon'),
        ("a: 1\nb: [1, 2\nc: 3\n", 2, 'a bracket is opened here and not closed with "]"',
         "close it, or put a comma between its items"),
        ("a: [1, 2}\n", 1, 'a bracket is opened here and not closed with "]"',
         "close it, or put a comma between its items"),
        ("a: {b: 1,\n  c: ${HOME}, d: [2]}\n", 2, 'a "{" stands inside a value without quotes, or behind no comma',
         "put the value in quotes (variables like ${NAME} are not filled in: use --set KEY=VALUE), or add the comma"),
        ("a: [x[0], y]\n", 1, 'a "[" stands inside a value without quotes, or behind no comma',
         "put the value in quotes (variables like ${NAME} are not filled in: use --set KEY=VALUE), or add the comma"),
        ("a: @x\n", 1, 'a value cannot begin with "@"', "put the value in quotes"),
        ("a: *x\n", 1, 'no anchor "&x" is defined above', 'put a text that begins with "*" in quotes'),
        ("a: - 1\n", 1, 'a "- item" stands where none can', "begin the list on a line of its own"),
        ("a: 1\n---\nb: 2\n", 2, 'a second document begins here ("---")', "keep one document in a file"),
        ('a: "\\q"\n', 1, 'an unknown "\\" escape in double quotes', "use single quotes around backslashes"),
        ("a: 1\nb: \x01\n", 2, "a character that YAML does not allow: '\\x01'", "remove it"),
        ("a: ]\n", 1, "not valid YAML: expected the node content, but found ']'",
         "mend this line or the one above"),
    ],
)  # fmt: skip
def test_syntax(text, line, problem, remedy):
    with pytest.raises(UserError) as caught:
        load(write(text), Config)
    assert str(caught.value) == f"a.yaml:{line}: {problem}\n  -> {remedy}"


def test_nested_too_deeply():
    assert complaint("a: " + "[" * 3000) == "a.yaml: nested too deeply\n  -> flatten it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nname: y\n",
         'a.yaml:2: the key "name" is given twice, on lines 1 and 2\n  -> remove one of them'),
        ("sft:\n  epochs: 1\n  rate: 1\n  epochs: 2\n",
         'a.yaml:4: the key "epochs" is given twice, on lines 2 and 4\n  -> remove one of them'),
        ("sources: [{file: x, file: y}]\n",
         'a.yaml:1: the key "file" is given twice, on lines 1 and 1\n  -> remove one of them'),
        ("name: x\nsystem: !note y\n",
         'a.yaml:2: unknown tag "!note"\n  -> drop the tag, or put a text that begins with "!" in quotes'),
        ("rounds: 1\nsystem: !!int y\n", 'a.yaml:2: "y" is not of the type !!int\n  -> drop the tag'),
        ("name: x\n[a, b]: y\n",
         'a.yaml:2: a key must be plain text\n  -> put a text that begins with "[" or "{" in quotes'),
        ("name: x\n<<: y\n", 'a.yaml:2: "<<" takes a section of keys\n  -> name an anchor: <<: *name'),
    ],
)  # fmt: skip
def test_faults_that_yaml_itself_lets_pass(text, message):
    assert complaint(text) == message


def test_an_alias_to_itself_ends():
    assert "a.yaml:1: this alias contains itself\n  -> write the value out" in complaint("seeds: &a [*a]\n")


# -- what does not fit the model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # unknown and missing keys
        ("name: x\ntemprature: 1\n", 'a.yaml:2: unknown key "temprature"\n  -> did you mean "temperature"?'),
        ("sft:\n  epoch: 1\n", 'a.yaml:2: unknown key "epoch" in sft\n  -> did you mean "epochs"?'),
        ("sft:\n  qqq: 1\n", 'a.yaml:2: unknown key "qqq" in sft\n  -> known: epochs, rate, model'),
        ("name: x\nsources:\n  - file: a\n  - rows: 2\n",
         'a.yaml:4: missing key "file" in sources[1]\n  -> add "file: ..." (text)'),
        ("sources:\n  - fil: a\n", 'a.yaml:2: unknown key "fil" in sources[0]\n  -> did you mean "file"?'),
        ("judges:\n  big:\n    modl: 1\n", 'a.yaml:3: unknown key "modl" in judges.big\n  -> did you mean "model"?'),
        # wrong values
        ("name: x\nrounds: two\n", 'a.yaml:2: rounds must be a whole number of at least 1, not "two"'),
        ("rounds: 0\n", "a.yaml:1: rounds must be a whole number of at least 1, not 0"),
        ("rounds: 1e3\n", "a.yaml:1: rounds must be a whole number of at least 1, not 1000.0\n  -> write 1000"),
        ("rounds: true\n", "a.yaml:1: rounds must be a whole number of at least 1, not true"),
        ('rounds: "2"\n', 'a.yaml:1: rounds must be a whole number of at least 1, not "2"'),
        ("rounds:\n", "a.yaml:1: rounds must be a whole number of at least 1, not empty\n"
         "  -> leave the key out, or give it a value"),
        ("temperature: warm\n", 'a.yaml:1: temperature must be a number, not "warm"'),
        ("sft:\n  rate: 0\n", "a.yaml:2: sft.rate must be a number above 0, not 0"),
        ("name: 3\n", 'a.yaml:1: name must be text, not 3\n  -> put it in quotes: "3"'),
        ("name: true\n", 'a.yaml:1: name must be text, not true\n  -> put it in quotes: "true"'),
        ("fast: yes\n", 'a.yaml:1: fast must be true or false, not "yes"\n  -> write true'),
        ("fast: off\n", 'a.yaml:1: fast must be true or false, not "off"\n  -> write false'),
        ("path: [x]\n", "a.yaml:1: path must be a path, not a list of 1 item"),
        ("seeds: 3\n", "a.yaml:1: seeds must be a list with at least 1 item, not 3\n  -> write [3]"),
        ("seeds: []\n", "a.yaml:1: seeds must be a list with at least 1 item, not an empty list"),
        ("seeds:\n  - 0\n  - one\n", 'a.yaml:3: seeds[1] must be a whole number, not "one"'),
        ("seeds: [x]\n", 'a.yaml:1: seeds[0] must be a whole number, not "x"'),
        ("sft: 3\n", "a.yaml:1: sft must be a section of keys, not 3"),
        ("limits:\n  a: 1\n  b: x\n", 'a.yaml:3: limits.b must be a whole number, not "x"'),
        # choices and unions
        ("labels: humans\n",
         'a.yaml:1: labels must be one of "ai", "human", "mixed", not "humans"\n  -> did you mean "human"?'),
        ("labels: 3\n", 'a.yaml:1: labels must be one of "ai", "human", "mixed", not 3'),
        ("draw: al\n",
         'a.yaml:1: draw must be a whole number of at least 1 or "all", not "al"\n  -> did you mean "all"?'),
        ("draw: 0\n", 'a.yaml:1: draw must be a whole number of at least 1 or "all", not 0'),
        ("system: 3\n", 'a.yaml:1: system must be text or null, not 3\n  -> put it in quotes: "3"'),
        ("source:\n  file: x\n  row: 3\n", 'a.yaml:3: unknown key "row" in source\n  -> did you mean "rows"?'),
        ("source: [x]\n", "a.yaml:1: source must be text or a section of keys, not a list of 1 item"),
        ("rl:\n  kind: pppo\n", 'a.yaml:2: rl.kind must be one of "ppo", "dpo", not "pppo"\n  -> did you mean "ppo"?'),
        ("rl:\n  clip: 0.2\n", 'a.yaml:1: missing key "kind" in rl\n  -> add "kind: ..." (one of "ppo", "dpo")'),
        ("rl:\n  kind: ppo\n", 'a.yaml:1: missing key "clip" in rl\n  -> add "clip: ..." (a number from 0 to 1)'),
        ("rl:\n  kind: ppo\n  clip: 2\n", "a.yaml:3: rl.clip must be a number from 0 to 1, not 2"),
        ("rl:\n  kind: dpo\n  clip: 2\n", 'a.yaml:3: unknown key "clip" in rl\n  -> known: kind, beta'),
    ],
)  # fmt: skip
def test_one_fault(text, message):
    assert complaint(text) == message


def test_missing_key_of_the_file_itself():
    assert complaint("# note\n\nrows: 2\n", kind=Source) == (
        'a.yaml:3: missing key "file"\n  -> add "file: ..." (text)'
    )


def test_all_faults_at_once_in_the_order_of_the_file():
    text = """\
    # an experiment
    nam: x
    labels: humn
    sft:
      epochs: 0
      epochs: 2
    sources:
      - rows: 1
    draw: some
    """
    with pytest.raises(UserErrors) as caught:
        read(text)
    assert [(error.where, error.problem, error.remedy) for error in caught.value.errors] == [
        ("a.yaml:2", 'unknown key "nam"', 'did you mean "name"?'),
        ("a.yaml:3", 'labels must be one of "ai", "human", "mixed", not "humn"', 'did you mean "human"?'),
        ("a.yaml:5", "sft.epochs must be a whole number of at least 1, not 0", ""),
        ("a.yaml:6", 'the key "epochs" is given twice, on lines 5 and 6', "remove one of them"),
        ("a.yaml:8", 'missing key "file" in sources[0]', 'add "file: ..." (text)'),
        ("a.yaml:9", 'draw must be a whole number of at least 1 or "all", not "some"', ""),
    ]


def test_several_faults_sort_by_number_and_one_stands_alone():
    lines = ["name: x"] + ["#"] * 7 + ["rounds: 0", "draw: 0"]
    assert [line.split(": ")[0] for line in complaint("\n".join(lines)).splitlines()] == ["a.yaml:9", "a.yaml:10"]
    with pytest.raises(UserError) as caught:
        read("rounds: 0\n")
    assert not isinstance(caught.value, UserErrors)


# -- the models' own validators ----------------------------------------------------------------------------------------


class Range(Section):
    low: int = 0
    high: int = 9

    @model_validator(mode="after")
    def _ordered(self) -> "Range":
        if self.low > self.high:
            raise ValueError("low is above high")
        return self

    @field_validator("low")
    @classmethod
    def _even(cls, low: int) -> int:
        if low % 2:
            raise ValueError("low must be even")
        return low


def no_spaces(text: str) -> str:
    if " " in text:
        raise ValueError("no spaces here")
    return text


class Checked(Section):
    range: Range = Range()
    either: Range | Source | int = 0
    word: Annotated[str, AfterValidator(no_spaces)] | int = 0

    @model_validator(mode="after")
    def _known(self) -> "Checked":
        if self.range.high == 7:
            raise Fault("7 is taken", "use 8", key="range.high")
        return self


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("either: 1\nrange:\n  low: 4\n  high: 3\n", "a.yaml:2: low is above high"),
        ("either: 1\nrange:\n  high: 5\n  low: 3\n", "a.yaml:4: low must be even"),
        ("range:\n  low: 6\neither:\n  low: 4\n  high: 3\n", "a.yaml:3: low is above high"),
        ("either: 1\nword: a b\n", "a.yaml:2: no spaces here"),
        ("word: []\n", "a.yaml:1: word must be text or a whole number, not an empty list"),
        ("either:\n  low: x\n  high: 3\n", 'a.yaml:2: either.low must be a whole number, not "x"'),
        ("either:\n  file: x\n  row: 3\n", 'a.yaml:3: unknown key "row" in either\n  -> did you mean "rows"?'),
        ("either: 1\nrange:\n  low: 6\n  high: 7\n", "a.yaml:4: 7 is taken\n  -> use 8"),
    ],
)
def test_messages_of_validators(text, message):
    assert complaint(text, kind=Checked) == message


def test_the_key_of_a_section_can_be_checked():
    class Named(Section):
        arms: dict[Annotated[str, Field(pattern="^[a-z]+$")], int]

    assert complaint("arms:\n  a: 1\n  b c: 2\n", kind=Named) == (
        "a.yaml:3: \"b c\" cannot be a key of arms: it should match pattern '^[a-z]+$'"
    )


# -- --set -------------------------------------------------------------------------------------------------------------


def test_overrides_are_read_as_yaml():
    config = read(
        "name: x\nsft:\n  rate: 1\n",
        "sft.epochs=2",
        "seeds=[0, 1]",
        "source.file=/some/file.jsonl.gz",
        "rl={kind: dpo}",
        "system=a = b",
        "temperature=1e-3",
        "limits.a=1",
        "limits.b=2",
    )
    assert config == Config(
        name="x",
        sft=Sft(epochs=2, rate=1.0),
        seeds=(0, 1),
        source=Source(file="/some/file.jsonl.gz"),
        rl=Dpo(kind="dpo"),
        system="a = b",
        temperature=0.001,
        limits={"a": 1, "b": 2},
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rounds", '--set rounds: "rounds" is not an override\n  -> write it as key=value or section.key=value'),
        ("=3", '--set : "=3" is not an override\n  -> write it as key=value or section.key=value'),
        ("sft..x=3", '--set sft..x: "sft..x=3" is not an override\n  -> write it as key=value or section.key=value'),
        ("rouds=3", '--set rouds: unknown key "rouds"\n  -> did you mean "rounds"?'),
        ("sft.epoch=3", '--set sft.epoch: unknown key "epoch" in sft\n  -> did you mean "epochs"?'),
        ("rounds=0", "--set rounds: rounds must be a whole number of at least 1, not 0"),
        ("seeds=[0, x]", '--set seeds: seeds[1] must be a whole number, not "x"'),
        ("name.x=3", '--set name.x: name is "x": it has no keys\n  -> set all of it: --set name=...'),
        ("name=@x", '--set name: a value cannot begin with "@"\n  -> put the value in quotes'),
        ("source.rows=2", '--set source.rows: missing key "file" in source\n  -> add "file: ..." (text)'),
        ("sft={epochs: 1, epochs: 2}",
         '--set sft: the key "epochs" is given twice, on lines 1 and 1\n  -> remove one of them'),
    ],
)  # fmt: skip
def test_faults_of_an_override(override, message):
    assert complaint("name: x\n", override) == message


def test_an_override_mends_the_file_and_leaves_lines_alone():
    assert read("rounds: two\n", "rounds=2").rounds == 2
    assert complaint("name: x\nrl:\n  kind: dpo\n", "rl.kind=ppo") == (
        'a.yaml:2: missing key "clip" in rl\n  -> add "clip: ..." (a number from 0 to 1)'
    )


def test_faults_of_overrides_and_file_together():
    assert complaint("rounds: 0\n", "x", "name=1") == (
        '--set name: name must be text, not 1\n  -> put it in quotes: "1"\n'
        '--set x: "x" is not an override\n  -> write it as key=value or section.key=value\n'
        "a.yaml:1: rounds must be a whole number of at least 1, not 0"
    )


# -- arms --------------------------------------------------------------------------------------------------------------

ARMS = """\
name: base
seeds: [0, 1, 2]
sft:
  epochs: 1
  rate: 2
arms:
  good:
    sft: {epochs: 3}
    seeds: [7]
  bad:
    sft:
      epochs: 0
      mode: x
    rl:
      kind: ppo
  same:
"""


def arm(name: str) -> Tree:
    tree = load_tree(write(ARMS))
    return merge(tree.without("arms"), tree.at("arms", name))


def test_an_arm_is_laid_over_the_base():
    assert validate(arm("good"), Config) == Config(name="base", seeds=(7,), sft=Sft(epochs=3, rate=2.0))
    assert validate(arm("same"), Config) == Config(name="base", seeds=(0, 1, 2), sft=Sft(epochs=1, rate=2.0))


def test_places_follow_the_winning_value():
    tree = arm("good")
    keys = ["name", "seeds", "sft"]
    assert [tree.where((key,)) for key in keys] == ["a.yaml:1", "a.yaml:9", "a.yaml:8"]
    assert tree.where(("sft", "epochs")) == "a.yaml:8"
    assert tree.where(("sft", "rate")) == "a.yaml:5"


def test_faults_of_an_arm_point_into_the_arm():
    with pytest.raises(UserErrors) as caught:
        validate(arm("bad"), Config)
    assert [f"{error.where} {error.problem}" for error in caught.value.errors] == [
        "a.yaml:12 sft.epochs must be a whole number of at least 1, not 0",
        'a.yaml:13 unknown key "mode" in sft',
        'a.yaml:14 missing key "clip" in rl',
    ]


def test_merge_leaves_its_inputs_alone():
    tree = load_tree(write(ARMS))
    merge(tree.without("arms"), tree.at("arms", "good"))
    assert tree.data["sft"] == {"epochs": 1, "rate": 2} and tree.where(("sft", "epochs")) == "a.yaml:4"


def test_faults_of_several_arms_are_told_once():
    one, two, three = (UserError("wrong", f"a.yaml:{line}") for line in (12, 3, 3))
    with pytest.raises(UserErrors) as caught:
        raise_all([UserErrors([one, two]), three])
    assert [error.where for error in caught.value.errors] == ["a.yaml:3", "a.yaml:12"]
    raise_all([])


def test_import_is_light():
    code = "import sys, cai.config.tree; print({'torch', 'transformers', 'numpy', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
