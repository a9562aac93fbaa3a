"""Write the generated parts of README.md and docs/; with --check, say if they are up to date.

python docs/generate.py [--check]
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
CAPACITY = ROOT / "docs" / "capacity.md"


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
    text = fill(text, "roles", table("role", roles()))
    return fill(text, "modules", table("module", plugins("modules")))


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
    for path, write in ((README, readme), (CAPACITY, capacity)):
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
