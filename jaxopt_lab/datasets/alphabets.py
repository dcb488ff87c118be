"""Which old encoding text of single bytes has: the one in which its words are of one language."""

from __future__ import annotations

import re

#: Encodings with languages and the letters beyond ASCII of each, in lower case. The first that
#: explains a text wins: Western Europe before the others, Windows before ISO, DOS and Mac.
_WESTERN = {
    "German": "äöüß",
    "French": "àâæçéèêëîïôœùûüÿ",
    "Spanish": "áéíñóúü",
    "Portuguese": "áàâãçéêíóôõú",
    "Italian": "àèéìîòóù",
    "Dutch": "áéëèïíóöüú",
    "Catalan": "àçéèíïóòúü",
    "Swedish": "åäöé",
    "Danish": "æøåé",
}
_CENTRAL = {
    "Polish": "ąćęłńóśźż",
    "Czech": "áčďéěíňóřšťúůýž",
    "Slovak": "áäčďéíĺľňóôŕšťúýž",
    "Hungarian": "áéíóöőúüű",
    "Croatian": "čćđšž",
    "Romanian": "ăâîşţ",
}
_ICELANDIC = {"Icelandic": "áæéðíóöþúý"}
_TURKISH = {"Turkish": "âçğıîöşüû"}
_CYRILLIC = {
    "Russian": "абвгдеёжзийклмнопрстуфхцчшщъыьэюя",
    "Ukrainian": "абвгґдеєжзиіїйклмнопрстуфхцчшщьюя",
    "Serbian": "абвгдђежзијклљмнњопрстћуфхцчџш",
}
_GREEK = {"Greek": "αβγδεζηθικλμνξοπρσςτυφχψωάέήίόύώϊϋΐΰ"}
_BALTIC = {"Lithuanian": "ąčęėįšųūž", "Latvian": "āčēģīķļņšūž", "Estonian": "äõöüšž"}
_ENCODINGS = (
    ("cp1252", _WESTERN),
    ("cp1254", _TURKISH),
    ("cp1252", _ICELANDIC),
    ("cp1250", _CENTRAL),
    ("cp1251", _CYRILLIC),
    ("cp1253", _GREEK),
    ("cp1257", _BALTIC),
    ("iso8859-2", _CENTRAL),
    ("koi8-r", _CYRILLIC),
    ("cp866", _CYRILLIC),
    ("cp850", _WESTERN),
    ("cp852", _CENTRAL),
    ("mac_roman", _WESTERN),
)
#: Words with what may stand inside them; other signs between letters speak against an encoding.
_WORD = re.compile(r"[^\W\d_]+(?:[^\s\x00-\x40\x5b-\x60\x7b-\x7f’‘–—·\xa0-][^\W\d_]*)*")
_NEARLY_ALL = 0.98


_RUSSIAN_VOWELS = set("аеёиоуыэюя")
#: Units without a vowel that stand alone beside numbers.
_RUSSIAN_UNITS = {"грн", "кв", "кг", "км", "млн", "млрд", "мм", "см", "тг", "шт"}
#: Letters that stand at the end of a Hebrew or Greek word only, or never stand there, as they look
#: in Windows-1251; and those with an accent, of which a Greek word has one.
_HEBREW, _HEBREW_LAST = set("абвгдежзийклмнопрстуфхцчшщъ"), set("кнпух")
_GREEK_LAST, _GREEK_ACCENTS = "т", set("ЬЭЮЯьэю")


#: Units that may be all that a table of numbers holds beyond ASCII.
_UNITS = {"cp1250": {"zł", "Kč", "kč"}, "cp932": {"円"}, "cp949": {"원"}, "gb18030": {"元", "万元"}}
#: Of micrograms and the like; no word of a language is as short and begins so.
MICRO = re.compile(r"(?<![^\W\d_])µ(?=[A-Za-z]{0,2}(?![^\W\d_]))")


def find_by_unit(sample: bytes) -> str | None:
    """Find the encoding in which nothing but units beyond ASCII stand behind numbers.

    Args:
      sample: the lines that are not ASCII.

    Returns:
      Name of the encoding; None if there is more, or none fits.
    """
    for encoding, units in _UNITS.items():
        try:
            text = sample.decode(encoding)
        except UnicodeDecodeError:
            continue
        words = {word for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()}
        rest = text
        for word in words & units:
            rest = rest.replace(word, "")
        if words and rest.replace("\xa0", "").isascii():
            return encoding
    return None


def find_by_alphabet(sample: bytes) -> str | None:
    """Find the encoding in which the words of a text are those of one language.

    Args:
      sample: the lines that are not ASCII.

    Returns:
      Name of the encoding; None if no language that is known here explains the text.
    """
    if _is_cyrillic(sample):
        return "cp1251"
    for encoding, languages in _ENCODINGS:
        try:
            words = set(_WORD.findall(MICRO.sub("u", sample.decode(encoding))))
        except UnicodeDecodeError:
            continue
        words = {word for word in words if not word.isascii()}
        if words and any(_explains(letters, words) for letters in languages.values()):
            other = languages in (_CYRILLIC, _GREEK)
            # Lower case alone may as well be Hebrew, which has no capitals.
            return None if other and all(word.islower() for word in words) else encoding
    return None


def _is_cyrillic(sample: bytes) -> bool:
    """Whether few words, such as "руб." alone, are Russian in Windows-1251 and nothing else.

    Read as Windows-1252 they would have no plain letter, which hardly a word of three lacks.
    """
    try:
        words = {word for word in _WORD.findall(sample.decode("cp1251")) if not word.isascii()}
    except UnicodeDecodeError:
        return False
    if not words or not any(_explains(letters, words) for letters in _CYRILLIC.values()):
        return False
    if {word for word in words if len(word) > 1} <= _RUSSIAN_UNITS and max(map(len, words)) > 1:
        return True
    if any(c.isascii() for word in words for c in word) or any(w[0] in "ьъы" for w in words):
        return False
    if not any(len(w) > 2 and 0 < len(_RUSSIAN_VOWELS & set(w.lower())) < len(w) for w in words):
        return False
    as_hebrew = all(set(w) <= _HEBREW and not set(w[:-1]) & _HEBREW_LAST for w in words)
    as_greek = all(set(w) & _GREEK_ACCENTS and _GREEK_LAST not in w[:-1] for w in words)
    return not as_hebrew and not as_greek


def _explains(letters: str, words: set[str]) -> bool:
    good = sum(_is_written(word) and _belongs(word, letters) for word in words)
    return good >= _NEARLY_ALL * len(words)


def _is_written(word: str) -> bool:
    """Whether capitals stand where they may: nowhere, in front or everywhere."""
    return word[1:].islower() or word.isupper() or len(word) == 1


def _belongs(word: str, letters: str) -> bool:
    lower = word.replace("İ", "i").lower()
    if letters == _WESTERN["Portuguese"] and re.search("õ(?![eê])", lower):
        return False  # Hungarian's ő, where nothing else tells
    other_script = letters[0] in "аα"
    return {c for c in lower if other_script or not c.isascii()} <= set(letters)
