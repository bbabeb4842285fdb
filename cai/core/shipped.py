"""The files that come with the package: constitutions, prompts and experiments.

In a clone they stand beside the package, where people edit them; a wheel carries a copy inside (pyproject.toml). A path
that begins with one of these folders is the user's own file where there is one, and else the one that was shipped: so
`experiments/smoke.yaml` means something in an empty folder too.
"""

from pathlib import Path

FOLDERS = ("constitutions", "prompts", "experiments")
_PACKAGE = Path(__file__).resolve().parents[1]
HOME = _PACKAGE / "shipped" if (_PACKAGE / "shipped").is_dir() else _PACKAGE.parent


def at_home(path: str | Path) -> Path:
    """The path with `~` filled in; as it is where nobody is called so."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        return Path(path)


def locate(path: str | Path) -> Path:
    """Where a file or folder is that a user names: `~` filled in, and the shipped one where the user has none."""
    own = at_home(path)
    if own.parts[:1] and own.parts[0] in FOLDERS and ".." not in own.parts and not own.exists():
        shipped = HOME / own
        return shipped if shipped.exists() else own
    return own
