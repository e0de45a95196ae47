"""What keys, tokens and passwords look like: by the forms that their services give them, or by what stands before.

A placeholder is none: `<your key>`, `sk-...`, `xxxx`, `$API_KEY`, or for the most part 1234567890 and the like.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable


def any_of(words: str) -> Callable[[str], bool]:
    """Whether a text has one of these, divided by spaces: the cheapest question to ask of it."""
    known = tuple(words.split())
    return (lambda text: words in text) if len(known) == 1 else lambda text: any(map(text.__contains__, known))


SECRET = re.compile(
    r"(?<![\w-])(?:"
    r"sk-(?:proj-|ant-|or-|svcacct-)?[\w-]{20,}|(?:sk|rk)_(?:live|test)_\w{16,}|whsec_[A-Za-z0-9+/]{24,}=*|"
    r"gh[pousr]_\w{30,}|github_pat_\w{22,}|gl(?:pat|dt|rt|ptt)-[\w-]{20,}|"
    r"xox[abeoprs]-[\w-]{10,}|xapp-\d-[\w-]{20,}|https://hooks\.slack\.com/(?:services|workflows)/[\w/-]{20,}|"
    r"https://(?:\w+\.)?discord(?:app)?\.com/api/webhooks/\d+/[\w-]{30,}|"
    r"A(?:KI|SI)A[0-9A-Z]{16}|AIza[\w-]{35}|ya29\.[\w-]{20,}|GOCSPX-[\w-]{20,}|"
    r"hf_[A-Za-z0-9]{30,}|gsk_[A-Za-z0-9]{40,}|r8_[A-Za-z0-9]{30,}|pplx-[A-Za-z0-9]{40,}|xai-[A-Za-z0-9]{40,}|"
    r"npm_\w{36}|pypi-[\w-]{20,}|SG\.[\w-]{16,}\.[\w-]{16,}|SK[0-9a-f]{32}(?!\w)|key-[0-9a-f]{32}(?!\w)|"
    r"shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|do[opr]_v1_[0-9a-f]{64}|dapi[0-9a-f]{32}|sq0(?:atp|csp)-[\w-]{22,}|"
    r"lin_api_\w{30,}|ntn_\w{40,}|sbp_[0-9a-f]{40}|figd_[\w-]{30,}|hvs\.[\w-]{24,}|PMAK-[\w-]{40,}|"
    r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}|AGE-SECRET-KEY-1\w{50,}|"
    r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----(?:[\s\S]{0,8000}?-----END (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----)?)"
)
_has_underscored = any_of("sk_ rk_ whsec_ ghp_ gho_ ghu_ ghs_ ghr_ _pat_ hf_ gsk_ r8_ npm_ shpat_ shpca_ shppa_ shpss_ _v1_ lin_api_ ntn_ sbp_ figd_")
_has_dashed = any_of("sk- glpat- gldt- glrt- glptt- xox xapp- GOCSPX- pplx- xai- pypi- key- sq0 PMAK- AGE- -----B")
_has_other = any_of("AKIA ASIA AIza ya29. SG. SK eyJ dapi hvs. ://hooks. ://discord")


def may_be_key(text: str) -> bool:
    """Whether it is worth looking for `SECRET`."""
    return ("_" in text and _has_underscored(text)) or ("-" in text and _has_dashed(text)) or _has_other(text) or "/webhooks/" in text


BOT_TOKEN = re.compile(r"(?<![\w-])(?:[MNO][\w-]{23,25}\.[\w-]{6,7}\.[\w-]{27,}|\d{8,10}:AA[\w-]{33})(?![\w-])")
"""Discord's and Telegram's."""

KEYED = re.compile(
    r"(?:secret_?access_?key[\"']?\s?[:=]\s?[\"']?(?=[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+]))"  # AWS
    r"|(?:account|sharedaccess)key[\"']?\s?[:=]\s?[\"']?(?=[A-Za-z0-9+/]{42,86}=)"  # Azure
    r"|(?:twilio|auth)_?(?:auth_?)?token[\"']?\s?[:=]\s?[\"']?(?=[0-9a-f]{32}(?!\w)))"  # Twilio
    r"([A-Za-z0-9+/]+={0,2})",
    re.I,
)
"""Keys whose form alone is no service's: the name that they are given says what they are."""

_key_or_token = any_of("ey tok Tok TOK EY")


def may_be_keyed(text: str) -> bool:
    """Whether it is worth looking for `KEYED`."""
    return ("=" in text or ":" in text) and _key_or_token(text)


IN_URL = re.compile(r"(?<=://)([^\s/:@\"'<>]*:[^\s/@\"'<>]+@)(?=[\w\[])")
"""User and password before the host (RFC 3986, 3.2.1)."""

_PLACEHOLDER_PASSWORD = re.compile(r"\$|[<{\[%*]|(?:your|my)?[_-]?(?:password|passwd|pass|pwd|secret|token|key)$|x+$|\.\.\.|changeme", re.I)

ASSIGNED = re.compile(
    r"(?<![^\W_])(?:(?:api|access|account|secret|private|auth|encryption|signing|master)[ _-]?key|secret[ _-]?access[ _-]?key|"
    r"(?:access|auth|refresh|bot|api)[ _-]?token|client[ _-]?secret|secret|bearer|token|password|passwd|passwort|kennwort|"
    r"mot de passe|contraseña|hasło|wachtwoord|senha|pwd|passphrase|pass(?=\s?[:=]))"
    r"[\"']?(?:\s?(?::=?|=>?)\s?|\s(?:is|ist|est|es|lautet)(?:\s|:\s?)|\s)[\"'`]?"
    r"([^\s\"'`,;<>{}()\[\]:=][^\s\"'`,;<>{}()\[\]]{6,198}[^\s\"'`,;<>{}()\[\].!?:])",
    re.I,
)
_key_word = any_of("key secret token bearer pass pwd kennwort contraseña hasło wachtwoord senha")
MIN_ENTROPY_BITS = 3.0
"""Per character. English words have less; random letters and digits of 16 characters and more nearly always have more."""

LONG_KEY = 20
"""So long a value of small letters and digits is no word and no number."""


def may_be_assigned(text: str) -> bool:
    """Whether it is worth looking for `ASSIGNED`."""
    return _key_word(text.casefold())


_COUNTED = re.compile(r"1234567890|0{7}|(\w)\1{7}")
"""As placeholders have it; a real key may too by chance, but not for the most part."""


def is_key(match: re.Match[str]) -> bool:
    """Whether this is a key, and no placeholder of its form."""
    key = match[1] if match.re.groups else match[0]
    if re.search(r"EXAMPLE|xxxx|XXXX|\*\*\*|\.\.\.|YOUR|your", key) or re.fullmatch(r"[a-z]+(?:[-_][a-z]+)+", key):
        return False
    return not (_COUNTED.search(key) and _in_order(key) * 2 > len(key))


def _in_order(text: str) -> int:
    """How many characters follow on the one before, or repeat it, as in 1234567890 or aaaa."""
    return sum(ord(b) - ord(a) in (0, 1, -9) for a, b in itertools.pairwise(text))


def is_credential(match: re.Match[str]) -> bool:
    """Whether a password stands in the URL, and no placeholder for one."""
    user, _, password = match[1][:-1].partition(":")
    return bool(password) and not _PLACEHOLDER_PASSWORD.match(password) and not (user in ("user", "username") and password.isalpha())


def is_random(match: re.Match[str]) -> bool:
    """Whether what is called a password or key looks like one rather than like a word."""
    value = match[1]
    kinds = sum(bool(re.search(one, value)) for one in (r"[a-z]", r"[A-Z]", r"\d", r"[^\w]"))
    is_word = re.fullmatch(r"[A-Za-z]?[a-z]+(?:[-_/.][A-Za-z]?[a-z]+)*\d?", value) or "://" in value or "@" in value or value[0] in "$%"
    is_mixed = kinds >= 3 or (kinds == 2 and len(value) >= LONG_KEY and value.isalnum())
    return not is_word and bool(re.search(r"\d", value)) and is_mixed and entropy_bits(value) >= MIN_ENTROPY_BITS and is_key(match)


def entropy_bits(text: str) -> float:
    """Shannon's entropy of the characters, in bits a character."""
    return -sum(n / len(text) * math.log2(n / len(text)) for n in Counter(text).values())
