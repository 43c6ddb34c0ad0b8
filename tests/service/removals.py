"""Takes out one check of the operator at a time and prints how many of the removals the cases notice.

    python tests/service/removals.py [part of a module's name]

A check is an `if` that ends its function or its turn of a loop; of a condition with `or`, each part is one.
"""

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import CodeType, ModuleType
from typing import NamedTuple

HERE = Path(__file__).parent
OPERATOR = HERE.parents[1] / "src" / "uid2" / "operator"
MODULES = (
    *sorted(path.relative_to(OPERATOR).as_posix() for path in (OPERATOR / "handlers").glob("[a-z]*.py")),
    "auth.py",
    "enveloped.py",
    "optout_rules.py",
    "origin_check.py",
    "routes.py",
    "service_links.py",
    "single_identity.py",
    "static_files.py",
)
PARALLEL = 2


class Check(NamedTuple):
    """`part` -1 is the whole condition, else one operand of its `or`."""

    module: str
    line: int
    column: int
    part: int
    text: str


def checks_of(module: str) -> list[Check]:
    found = []
    for node in ast.walk(ast.parse((OPERATOR / module).read_text())):
        if isinstance(node, ast.If) and isinstance(node.body[-1], ast.Return | ast.Raise | ast.Continue):
            parts = node.test.values if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.Or) else []
            numbered = list(enumerate(parts)) or [(-1, node.test)]
            found += [Check(module, node.lineno, node.col_offset, part, ast.unparse(test)) for part, test in numbered]
    return found


class _Without(ast.NodeTransformer):
    def __init__(self, check: Check) -> None:
        self._check = check
        self.removed = 0

    def visit_If(self, node: ast.If) -> ast.If:
        self.generic_visit(node)
        if (node.lineno, node.col_offset) == (self._check.line, self._check.column):
            self.removed += 1
            if self._check.part < 0:
                node.test = ast.Constant(False)
            else:
                assert isinstance(node.test, ast.BoolOp)
                node.test.values[self._check.part] = ast.Constant(False)
        return ast.fix_missing_locations(node)


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, check: Check) -> None:
        super().__init__(name, path)
        self._check = check

    def get_code(self, fullname: str) -> CodeType:
        tree = ast.parse(Path(self.path).read_text())
        transformer = _Without(self._check)
        changed = transformer.visit(tree)
        assert transformer.removed == 1
        return compile(changed, self.path, "exec")


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, check: Check) -> None:
        self._check = check
        self._name = "uid2.operator." + check.module.removesuffix(".py").replace("/", ".")

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._name:
            return None
        file = str(OPERATOR / self._check.module)
        return importlib.util.spec_from_file_location(fullname, file, loader=_Loader(fullname, file, self._check))


def noticing_case(check: Check) -> str | None:
    """The first case that fails without the check; run in a fresh process."""
    sys.meta_path.insert(0, _Finder(check))
    sys.path.insert(0, str(HERE))
    from case import judge
    from every_case import CASES
    from stage import Stage, sample_snapshot

    snapshot = sample_snapshot()
    for case in CASES:
        stage = Stage(snapshot, case.settings)
        try:
            judge(case, stage)
        except Exception:  # noqa: BLE001 - whatever goes wrong is noticed
            return case.name
        finally:
            stage.close()
    return None


def main(wanted: str) -> int:
    checks = [check for module in MODULES if wanted in module for check in checks_of(module)]

    def removed(check: Check) -> str | None:
        command = [sys.executable, __file__, "--without", *map(str, check)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode not in (0, 1):
            raise RuntimeError(done.stderr[-2000:])
        return done.stdout.strip() if done.returncode == 0 else None

    with ThreadPoolExecutor(PARALLEL) as pool:
        noticed = list(pool.map(removed, checks))
    for check, case in zip(checks, noticed, strict=True):
        if case is None:
            print(f"not noticed: {check.module}:{check.line} {check.text}")
    print(f"{len(checks)} checks removed, {sum(case is not None for case in noticed)} removals noticed")
    return 0


if __name__ == "__main__":
    if sys.argv[1:2] == ["--without"]:
        module, line, column, part, text = sys.argv[2:]
        name = noticing_case(Check(module, int(line), int(column), int(part), text))
        print(name or "")
        sys.exit(0 if name else 1)
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
