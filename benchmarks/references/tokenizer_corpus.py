"""Texts that tokenizers disagree about: this machine's source code, and generated mixtures.

Everything is a function of a seed and of the files that the machine has. No text holds a NUL.
"""

import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

TEXT_CHARACTERS = 16_000  # llama.cpp's regular expressions recurse, so a text must stay short
MOST_FILE_BYTES = 200_000
_SUFFIXES = (".py", ".pyi", ".js", ".ts", ".h", ".c", ".cpp", ".json", ".toml", ".md", ".rst")

_WORDS = (
    "return", "self", "camelCaseName", "snake_case_name", "SCREAMING_CASE", "HTTPServer2", "x1y2",
    "naïve", "Ærøskøbing", "größe", "ﬁne", "İstanbul", "żółć", "Привет", "мир", "ёлка", "Ελληνικά",
    "שָׁלוֹם", "עולם", "مرحبا", "بِسْمِ", "می‌خواهم", "नमस्ते", "हिन्दी", "क्षत्रिय", "বাংলা", "தமிழ்",
    "ไทย", "ສະບາຍດີ", "မြန်မာ", "ខ្មែរ", "ქართული", "Հայերեն", "አማርኛ", "བོད་ཡིག", "ᠮᠣᠩᠭᠣᠯ", "ᏣᎳᎩ",
    "你好", "世界", "漢字", "變數", "こんにちは", "カタカナ", "ｶﾀｶﾅ", "한국어", "안녕", "한",
    "𠮷野家", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢",
    "e\u0301", "a\u0308\u0323", "Z\u0351\u036b\u0343a\u0334l\u0338g\u0328o\u0321", "ﷺ", "ⅷ", "Ⓐ",
)  # fmt: skip
_EMOJI = (
    "😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇯🇵", "1️⃣", "❤️", "🧑🏿‍💻", "☃", "⚠️", "🫠", "🪿", "✓", "→",
)  # fmt: skip
_NUMBERS = (
    "0", "7", "42", "100", "1234", "1_000_000", "3.14159", "6.02e-23", "0xDEADbeef", "0b1010",
    "192.168.0.1", "2024-02-29T23:59:60Z", "１２３", "٣٤٥", "१२३४", "三", "½", "x²", "Ⅻ", "🄁", "౧౨",
)  # fmt: skip
_APOSTROPHES = (
    "don't", "DON'T", "we'll", "WE'LL", "I'm", "I'M", "you're", "they've", "he'd", "it's", "IT'S",
    "'s", "'Sx", "'tis", "''", "'''doc'''", "l’été", "rock'n'roll", "'ſ", "'lL", "a'rEb", "ʼn",
)  # fmt: skip
_SYMBOLS = (
    "+", "==", "!==", "=>", "->", "::", "...", "&&", "||", "<<=", "**", "//", "/*", "*/", "#", "@",
    "();", "{}", "[]", "});", "</div>", "<!--", "-->", "${x}", "`", "\\n", "\\\\", '"', '"""', "%s",
    "§", "€", "£", "°", "µ", "×", "÷", "∑", "∀x∈ℝ", "≠", "“q”", "«q»", "、", "。",
    "！", "…", "—", "؟", "।",
)  # fmt: skip
_SPACES = (
    " ", " ", " ", " ", "  ", "    ", "        ", "\t", "\t\t", " \t ", "\n", "\n\n", "\r\n", "\r",
    "\r\n\r\n", "\n\t\t", "\n    ", "   \n   ", "\u00a0", "\u2003", "\u3000", "\u2028", "\u0085",
    "\u200b", "\u200d", "\ufeff", "\v", "\f", "\u1680", "\u202f", "\u180e", "\n\n\n    \n",
)  # fmt: skip
_SPECIAL_NAMES = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|fim_prefix|>", "<|fim_middle|>", "<s>",
    "<|fim_suffix|>", "<|file_sep|>", "<file_sep>", "<reponame>", "<tool_call>", "</tool_call>",
    "<tool_call></tool_call>", "</s>", "<|unknown|>", "[PAD151665]", "<unk>",
)  # fmt: skip


def edge_cases() -> list[str]:
    """Short texts, each about one trap."""
    units = [*_WORDS, *_EMOJI, *_NUMBERS, *_APOSTROPHES, *_SYMBOLS, *_SPACES, *_SPECIAL_NAMES]
    cases = [*units, *(f" {unit}" for unit in units), *(f"{unit}\n" for unit in units)]
    cases += [f"x{unit}1 {unit} {unit}{unit}" for unit in units]
    cases += [
        space * n for space in (" ", "\t", "\n", "\r\n", "\u3000") for n in (2, 3, 7, 64, 300)
    ]
    cases += [f"x{' ' * n}y" for n in (2, 3, 5, 17, 129)]
    cases += [f"\n{' ' * n}return x" for n in range(1, 20)]
    cases += [chr(code) * 2 + "a" for code in [*range(1, 32), *range(127, 160)]]
    cases += [
        "",
        "a" * 500,
        "1" * 100,
        "=" * 200,
        "漢" * 100,
        "😀" * 50,
        "'" * 30,
        "e" + "\u0301" * 60,
    ]
    return cases


def mixture(rng: random.Random, n_characters: int) -> str:
    """Code-like text of all scripts, symbols and spaces, with some noise."""
    kinds = (_WORDS, _WORDS, _EMOJI, _NUMBERS, _APOSTROPHES, _SYMBOLS, _SYMBOLS, _SPECIAL_NAMES)
    weights = (8, 8, 1, 3, 2, 5, 5, 0.5)
    parts: list[str] = []
    n_done = 0
    while n_done < n_characters:
        draw = rng.random()
        if draw < 0.02:
            part = "".join(_noise(rng) for _ in range(rng.randint(1, 12)))
        elif draw < 0.03:
            part = rng.choice(" \t\n=-#*/") * rng.randint(2, 90)
        else:
            part = rng.choice(rng.choices(kinds, weights)[0])
        if rng.random() < 0.6:
            part += rng.choice(_SPACES)
        parts.append(part)
        n_done += len(part)
    return "".join(parts)


def source_texts(n_characters: int) -> Iterator[str]:
    """Source files of this machine, smallest path first, in equal shares by language."""
    by_suffix: dict[str, list[Path]] = {suffix: [] for suffix in _SUFFIXES}
    for folder in _source_folders():
        for path in sorted(folder.rglob("*")):
            if path.suffix in by_suffix and path.is_file():
                by_suffix[path.suffix].append(path)
    found = [paths for paths in by_suffix.values() if paths]
    for paths in found:
        n_left = n_characters // len(found)
        for path in paths:
            if n_left <= 0:
                break
            text = _read(path)[:n_left]
            n_left -= len(text)
            for start in range(0, len(text), TEXT_CHARACTERS):
                yield text[start : start + TEXT_CHARACTERS]


def _source_folders() -> list[Path]:
    paths = sysconfig.get_paths()
    folders = (paths["stdlib"], paths["include"], paths["purelib"], "/usr/include/linux")
    return [Path(folder) for folder in folders if Path(folder).is_dir()]


def _read(path: Path) -> str:
    """A file with its own line ends; "" if it is too large, binary or not UTF-8."""
    if path.stat().st_size > MOST_FILE_BYTES:
        return ""
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError:
        return ""
    return "" if "\0" in text else text


def _noise(rng: random.Random) -> str:
    """Any character but NUL and surrogates, the low ones more often."""
    code = rng.choice((rng.randint(1, 0x2FF), rng.randint(1, 0xFFFF), rng.randint(1, 0x10FFFF)))
    return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)
