import pytest

from lsp_server.prompt.enclosing import enclosing_definition

PYTHON = """import os

@cached
@other
def f(
    a,
):
    if a:

        return 1
    return 2

class A:
    x = 1

    def g(self):
        pass

y = 3
"""
C = """static int f(int a)
{
    if (a) {
        return 1;
    }
    return 2;
}

int g(void) {
    for (;;) {
        h();
    }
}
int x;
"""
TYPESCRIPT = """export const f = async (a: A) => {
  return a;
};

export class A<T> {
  b(): void {
    c();
  }
}
"""


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        (PYTHON, 0, None),
        (PYTHON, 4, (2, 11)),
        (PYTHON, 5, (2, 11)),
        (PYTHON, 9, (2, 11)),
        (PYTHON, 13, (12, 17)),
        (PYTHON, 16, (15, 17)),
        (PYTHON, 18, None),
        (C, 8, (8, 13)),
        (C, 10, (8, 13)),
        (C, 13, None),
        (TYPESCRIPT, 1, (0, 3)),
        (TYPESCRIPT, 6, (5, 8)),
        (C, 3, (0, 7)),
        (TYPESCRIPT, 4, (4, 9)),
    ],
)
def test_a_definition_is_found_by_its_head_and_depth(
    text: str, line: int, found: tuple[int, int] | None
) -> None:
    assert enclosing_definition(text.split("\n"), line) == found
