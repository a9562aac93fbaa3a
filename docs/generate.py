"""Write the generated parts of README.md and docs/; with --check, say if they are up to date.

python docs/generate.py [--check]
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
CAPACITY = ROOT / "docs" / "capacity.md"
RUNBOOKS = ROOT / "docs" / "runbooks.md"


def first_sentence(text: Any) -> str:
    """One line for a table: lists give their first item."""
    line = text[0] if isinstance(text, list) else text
    return " ".join(str(line).split()).rstrip(".")


def roles() -> list[tuple[str, str]]:
    """Name and short description of each role, from its argument specification."""
    rows = []
    for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")):
        specs = yaml.safe_load(path.read_text())["argument_specs"]
        entry = specs.get("main") or next(iter(specs.values()))
        name = path.parents[1].name
        rows.append((f"[`{name}`](roles/{name}/README.md)", entry["short_description"]))
    return rows


def documented(path: Path) -> str:
    """The short description in the DOCUMENTATION of a plugin."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOCUMENTATION":
            return str(yaml.safe_load(ast.literal_eval(node.value))["short_description"])
    raise SystemExit(f"{path}: found no DOCUMENTATION, wanted one")


def plugins(kind: str) -> list[tuple[str, str]]:
    """Name and short description of the plugins of one kind."""
    paths = sorted((ROOT / "plugins" / kind).glob("*.py"))
    return [(f"`{path.stem}`", documented(path)) for path in paths if path.stem != "__init__"]


def table(head: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| {head} | what it does |", "| --- | --- |"]
    lines += [f"| {name} | {first_sentence(text)} |" for name, text in rows]
    return "\n".join(lines)


def fill(text: str, name: str, content: str) -> str:
    """Replace what stands between the two markers of a section."""
    begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
    if begin not in text or end not in text:
        raise SystemExit(f"found no section {name}, wanted {begin} … {end}")
    before, _begin, rest = text.partition(begin)
    after = rest.partition(end)[2]
    return f"{before}{begin}\n{content}\n{end}{after}"


def readme(text: str) -> str:
    """README.md with its tables."""
    text = fill(text, "systems", supported())
    text = fill(text, "roles", table("role", roles()))
    return fill(text, "modules", table("module", plugins("modules")))


def supported() -> str:
    """The table of the systems that hosts may have."""
    sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]
    from ansible_collections.mlops.onprem.plugins.module_utils._assess import (  # noqa: PLC0415
        systems,
    )

    lines = ["| system | machine | Python | device | server | why |", "| --- " * 6 + "|"]
    for row in systems.MATRIX:
        name = row.label.title() + (f" ({row.known_as})" if row.known_as else "")
        cells = (name, row.machine, row.python, row.device, row.server, row.how)
        lines.append(f"| {' | '.join(cells)} |")
    for refused in systems.REFUSALS:
        name = refused.begins.title() + (f" ({refused.known_as})" if refused.known_as else "")
        cells = (name, "any", "", systems.REFUSED, systems.REFUSED, refused.because)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def options(role: str) -> dict[str, dict[str, Any]]:
    """The options of a role; one of several entry points stands where it is named first."""
    page = yaml.safe_load((ROOT / "roles" / role / "meta" / "argument_specs.yml").read_text())
    found: dict[str, dict[str, Any]] = {}
    for entry in page["argument_specs"].values():
        for name, option in (entry.get("options") or {}).items():
            found.setdefault(name, option)
    return found


def handed_over(role: str) -> set[str]:
    """The variables of a role for which the site computes a value."""
    page = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())
    return {name for name, value in page.items() if "__wired_" in str(value)}


def secrets(role: str) -> set[str]:
    """The variables of a role whose default is a secret of the site."""
    page = yaml.safe_load((ROOT / "roles" / role / "defaults" / "main.yml").read_text())
    return {name for name, value in page.items() if "mlops.onprem.secret" in str(value)}


def shown_default(option: dict[str, Any]) -> str:
    """A default as people read it."""
    if "default" not in option:
        return "required" if option.get("required") else "none"
    value = option["default"]
    text = str(value) if isinstance(value, str) else json.dumps(value)
    if not text:
        return "empty"
    return "`" + " ".join(text.split()).replace("|", "\\|") + "`"


def words(text: Any) -> str:
    """The whole description of an option in one cell of a table."""
    joined = " ".join(text) if isinstance(text, list) else str(text)
    joined = re.sub(r"\b[CVOMP]\(([^)]*)\)", r"`\1`", " ".join(joined.split()))
    return joined.replace("|", "\\|")


def variables(chosen: dict[str, dict[str, Any]], told: Mapping[str, str]) -> str:
    """The table of variables of a role, and the keys of those that are made of several."""
    lines = ["| variable | default | meaning |", "| --- | --- | --- |"]
    for name, option in chosen.items():
        meaning = words(option["description"])
        if option.get("choices"):
            meaning += f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}."
        if option.get("options"):
            keys = ", ".join(f"`{key}`" for key in option["options"])
            meaning += f" {'Each with' if option['type'] == 'list' else 'Keys'}: {keys}."
        default = told.get(name) or shown_default(option)
        lines.append(f"| `{name}` | {default} | {meaning} |")
    return "\n".join(lines)


def role_page(role: str) -> Callable[[str], str]:
    """README.md of a role with its tables."""

    def write(text: str) -> str:
        every = options(role)
        told = dict.fromkeys(handed_over(role), "computed for the site")
        told.update(dict.fromkeys(secrets(role), "a secret of the site"))
        sections = {
            "variables": every,
            "variables of the site": {k: v for k, v in every.items() if k.startswith("mlops_")},
            "variables of the role": {k: v for k, v in every.items() if k.startswith(role)},
        }
        for name, chosen in sections.items():
            if f"<!-- {name}: generated -->" in text:
                text = fill(text, name, variables(chosen, told))
        return text

    return write


def pages() -> list[tuple[Path, Callable[[str], str]]]:
    """Every page with something generated in it, and who writes that."""
    found: list[tuple[Path, Callable[[str], str]]] = [
        (README, readme),
        (CAPACITY, capacity),
        (RUNBOOKS, runbooks),
    ]
    for path in sorted(ROOT.glob("roles/*/README.md")):
        found.append((path, role_page(path.parent.name)))
    return found


def runbooks(text: str) -> str:
    """docs/runbooks.md with the runbooks of all roles."""
    sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]
    from ansible_collections.mlops.onprem.plugins.module_utils._monitoring import (  # noqa: PLC0415
        runbooks as books,
    )

    found = [
        book
        for path in sorted(ROOT.glob("roles/*/files/runbooks.yml"))
        for book in books.parsed(yaml.safe_load(path.read_text()))
    ]
    return fill(text, "runbooks", books.document(found))


def capacity(text: str) -> str:
    """docs/capacity.md with what the planner says about inventories/example_company."""
    sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]
    from ansible_collections.mlops.onprem.plugins.module_utils._assess.plan_report import (  # noqa: PLC0415
        plan_text,
    )

    from tests import example_site  # noqa: PLC0415

    more = example_site.with_changes(nightly_training={"replicas": 2})
    for name, planned in {
        "plan": example_site.planned(),
        "refusal": example_site.planned(more),
        "what-if": example_site.planned(what_if={"add_hosts": [{"offer": "gpu-server"}]}),
    }.items():
        if planned.plan is None:
            raise SystemExit(f"{name}: {planned.findings[0].sentence}")
        lines = plan_text(planned.plan.as_dict())
        if name == "what-if":
            lines = lines[next(i for i, line in enumerate(lines) if line.startswith("What if")) :]
        text = fill(text, name, "\n".join(["```", *lines, "```"]))
    return text


def main() -> int:
    old = 0
    for path, write in pages():
        text = path.read_text()
        wanted = write(text)
        if wanted == text:
            continue
        if "--check" in sys.argv[1:]:
            print(f"{path.relative_to(ROOT)} is not up to date; run: make docs", file=sys.stderr)
            old = 1
        else:
            path.write_text(wanted)
    return old


if __name__ == "__main__":
    sys.exit(main())
