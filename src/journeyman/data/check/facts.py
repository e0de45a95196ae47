"""Facts that change, in outputs: a model that learned today's price says it for ever.

What is looked for, and how it is told from numbers that stay:

| kind     | such as                                | not                                              |
|----------|----------------------------------------|--------------------------------------------------|
| price    | €14.50, 2.75% a year, 20% off          | 100% wool, weights in pounds                     |
| stock    | 3 left, sold out, fully booked         | the left side, free of charge                    |
| duration | arrives in 5 to 7 days, 30-day returns | bake for 30 minutes, take it for 5 days          |
| date     | Friday, 4 July; in March; next Tuesday | born on 16 December 1775                         |
| hours    | Mon-Fri 9-17, closes at 6 pm           | 24 hours a day, 16:9                             |
| version  | version 4.2, Android 11 or later       | model TX-450, TLS 1.2                            |
| person   | our head of returns, Maria Lopez       | Emma by Jane Austen, the customer's name         |
| url      | https://shop.test/sizes, shop.com/faq  | example.com, e-mail addresses                    |

Whatever the input says already (an order's date that the customer named) is repeated, not learned, and is left out, and so is
what the output works out from it (`computed.py`), and a value that a field of JSON takes from a small closed set, which is a
class. The wording that tells the kinds apart is English, with the most usual of German, French and Spanish; amounts with a
currency, URLs, clock times and numeric dates are found in any language.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass
from typing import Any, Literal

from journeyman.data.check.computed import numbers_in, worked_out
from journeyman.data.check.finding import Finding
from journeyman.data.check.rule import Rows, Rule, Sample, pair
from journeyman.data.labels import closed_set
from journeyman.data.refused import quoted

FactKind = Literal["price", "stock", "duration", "date", "hours", "version", "person", "url"]

SHOWN_VALUES = 5
"""So many of the most frequent values of a kind are named."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A stretch of text that states something that changes."""

    kind: FactKind
    start: int
    end: int
    text: str


_NUMBER_WORD = (
    r"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty|fifty|sixty|ninety"
)
_COUNT = rf"(?:\d[\d.,]*|{_NUMBER_WORD})"
_REST_OF_AMOUNT = r"\d*(?:[ .,']\d{3})*(?:[.,]\d{1,3})?(?:[.,]-)?"
_AMOUNT = rf"\d{_REST_OF_AMOUNT}"
_SYMBOL = r"[€$£¥₹₩₽]"
_ISO_CURRENCY = r"(?:EUR|USD|GBP|CHF|SEK|NOK|DKK|PLN|CZK|HUF|JPY|CNY|INR|AUD|CAD|NZD|ZAR|BRL|MXN)"
_MONEY_WORD = r"(?:euros?|dollars?|pounds?|cents?|pence|francs?|crowns?|kroner|kronor|kr|rupees?|yen|zloty|pesos?)"
_PER = r"(?:\s(?:a|an|per|each|for)\s(?:year|month|week|day|night|hour|page|head|person|seat|call|dose|book|licen[cs]e)(?:\sand\s\w+)?)?"
_MONTH = r"(?:Jan(?:uary)?|Feb(?:ruary)?|Mar(?:ch)?|Apr(?:il)?|May|June?|July?|Aug(?:ust)?|Sept?(?:ember)?|Oct(?:ober)?|Nov(?:ember)?|Dec(?:ember)?)"
_LONG_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_DAY = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_ANY_DAY = rf"(?:{_DAY}s?|[Ww]eekdays|[Ww]eekends|Mon|Tue|Tues|Wed|Thu|Thur|Thurs|Fri|Sat|Sun)"
_CLOCK = r"(?:[01]?\d|2[0-4])(?:[:.][0-5]\d)?\s?(?:[ap]m\b|[ap]\.m\.|o['’]clock)|(?:[01]?\d|2[0-4]):[0-5]\d(?![:\d])|\b(?:noon|midnight)\b"
_LOOSE_CLOCK = rf"(?:{_CLOCK}|(?:[01]?\d|2[0-4])(?:[.:][0-5]\d)?)"
_TO = r"\s?(?:-|–|—|to|until|till|and)\s?"
_UNIT = r"(?:minutes?|hours?|days?|nights?|weeks?|months?|years?)"
_WORKING = r"(?:(?:working|business|calendar|week)[ -]?)?"
_DURATION = rf"{_COUNT}(?:{_TO}{_COUNT})?[ -]{_WORKING}{_UNIT}|\ban?\s{_WORKING}(?:hour|day|week|month)"
_TITLE = r"(?:Dr|Prof|Professor|Mr|Mrs|Ms|Sergeant|Captain|Judge|Sister|Father)\.?"
_WORD_OF_NAME = r"[A-ZÀ-ÖØ-Þ][\w'’]*[a-zß-ÿ][\w'’-]*"
_NAME = (
    rf"(?:(?:{_TITLE} )+{_WORD_OF_NAME}(?: {_WORD_OF_NAME}){{0,2}}"
    rf"|{_WORD_OF_NAME}(?: (?:de|van|von|der|den|la|al|el|bin|da|di|du|le))*(?: {_WORD_OF_NAME}){{1,2}})"
)
_ROLE = (
    r"(?:head|manager|director|officer|chief|boss|lead|leader|chair(?:wom|m)?an?|mayor|principal|adviser|advisor|"
    r"ombuds\w+|archivist|librarian|chef|curator|coordinator|supervisor|president|secretary|treasurer|founder|owner|"
    r"midwife|matron|editor|captain|consultant|CEO|CTO|CFO|COO)"
)
_LEADS = r"(?:led|headed|run|managed|guided|directed|chaired|looked after|taken care of|overseen|supervised|organi[sz]ed|taught|handled)"
_TLD = (
    r"(?:com|org|net|io|gov|edu|shop|store|app|dev|co|eu|info|biz|online|site|cloud|ai|tv|me|test|uk|de|fr|nl|be|ch|at|"
    r"it|es|pt|se|no|dk|fi|ie|pl|cz|us|ca|au|nz|in|jp)"
)
# German, French and Spanish.
_FEW = (
    r"(?:\d{1,3}|zwei|drei|vier|fünf|sechs|sieben|zehn|vierzehn|deux|trois|quatre|cinq|sept|dix|quinze|dos|tres|cuatro|cinco|siete|diez)"
)
_FEW_TO_FEW = rf"{_FEW}(?:\s?(?:-|–|bis|à|ou|a|o)\s?{_FEW})?"
_MONTH_ELSEWHERE = (
    r"(?:Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember|janvier|février|mars|avril|mai|juin|juillet|"
    r"août|septembre|octobre|novembre|décembre|enero|febrero|marzo|abril|mayo|junio|julio|agosto|septiembre|octubre|noviembre|diciembre)"
)


@dataclass(frozen=True, slots=True)
class _Needs:
    """What a text must have for some patterns to match.

    A text that holds none of `words`, no digit where one is needed, or nothing like `hint` can't match: that is quick
    to see, and most of the time of a check would otherwise go into looking for what is not there.
    """

    words: tuple[str, ...]
    digit: bool
    hint: re.Pattern[str] | None
    case: bool

    def are_met(self, text: str, lower: str, has_digit: bool) -> bool:
        """Whether it is worth looking."""
        if self.digit and not has_digit:
            return False
        looked_at = text if self.case else lower
        if self.words and not any(map(looked_at.__contains__, self.words)):
            return False
        return self.hint is None or self.hint.search(looked_at) is not None


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One wording of a kind. `fits` may refuse a match for what stands around it."""

    kind: FactKind
    regex: re.Pattern[str]
    needs: _Needs
    fits: Callable[[re.Match[str]], bool]


def _sentence(match: re.Match[str]) -> str:
    text, (start, end) = match.string, match.span()
    return text[_start_of_sentence(text, start) : _end_of_sentence(text, end)]


_SENTENCE_END = re.compile(r"(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bSt)(?<!\bProf)[.!?](?=\s)|\n")


def _start_of_sentence(text: str, position: int) -> int:
    return max((m.end() for m in _SENTENCE_END.finditer(text, 0, position)), default=0)


def _end_of_sentence(text: str, position: int) -> int:
    found = _SENTENCE_END.search(text, position)
    return found.start() if found else len(text)


_WEIGHT = re.compile(r"\b(?:weigh\w*|heavy|heavier|lighter|body ?weight|lift|lbs?)\b", re.I)


def _is_money(match: re.Match[str]) -> bool:
    return "pound" not in match[0].lower() or not _WEIGHT.search(_sentence(match))


_HISTORY = re.compile(
    r"\b(?:was|were|born|died|founded|built|wrote|written|invented|discovered|noticed|began|came|painted|printed|named|"
    r"first|until then|climbed|signed|fell|became|had been)\b",
    re.I,
)
_YEAR = re.compile(r"\b(1\d{3}|20\d\d)\b")
RECENT_YEAR = 2000
"""A date before it is history, whatever the sentence says."""


def _is_to_come(match: re.Match[str]) -> bool:
    """Not history (an old year, or any year in a sentence about the past), and not shown as an example of a date."""
    if re.search(r"\bsuch as\b|\be\.g\.|\bfor example\b", match.string[max(0, match.start() - 80) : match.start()], re.I):
        return False
    year = _YEAR.search(match[0])
    if year is None:
        return True
    return int(year[1]) >= RECENT_YEAR and not _HISTORY.search(_sentence(match))


_SERVICE = re.compile(
    r"\b(?:deliver\w*|ship\w*|shipping|arriv\w*|dispatch\w*|sent|send|post(?:ed|al)?|reach(?:es)?|process\w*|refund\w*|transfers?|"
    r"wait\w*|delay\w*|answers?|repl(?:y|ies)|respon[ds]\w*|returned|returns?|object|dispute|cancel\w*|valid|trials?|kept|"
    r"keep|pay|paid|issued|ready|deadline|notice|money|arrange|turnaround|collected|be collected|engraving|due|queue|"
    r"list|appointment|guarantee|warranty|guaranteed|expires?|lasts? for|subscription|contract|loan|here)\b",
    re.I,
)
_STEP = re.compile(
    r"\b(?:bake|boil|soak|cook|stir|simmer|rest|heat|rinse|apply|take (?:it|them|one|two|\d)|brush|chew|swallow|hold|press|leave it|"
    r"let it|wash|burns?|walk|drink|eat|measure|stays? on|dose|fever|hike|walks?|climb)\b",
    re.I,
)


def _is_service(match: re.Match[str]) -> bool:
    text, start = match.string, match.start()
    if re.search(r"\b(?:age of|aged|old|older than|last|past)\s*$", text[max(0, start - 14) : start], re.I):
        return False
    if re.match(r"\s?(?:a day\b|old\b|ago\b|before (?:surgery|eating)|apart\b)", text[match.end() :]):
        return False
    if _STEP.search(_sentence(match)):
        return False
    long = re.search(r"day|week|month|year|night", match[0]) is not None
    around = text[max(_start_of_sentence(text, start), start - 70) : _end_of_sentence(text, match.end())][:160]
    return _SERVICE.search(around) is not None and (long or _QUICK.search(around) is not None)


_QUICK = re.compile(r"\b(?:within|wait\w*|delay\w*|answers?|repl\w+|respon\w+|cancel\w*|before|takes?|up to)\b", re.I)

_SERVICE_ELSEWHERE = re.compile(
    r"liefer|versand|versend|verschick|zugestell|zustell|rückgabe|zurück|rücksend|erstatt|widerruf|umtausch|garantie|bearbeit|antwort|frist|"
    r"livr|expédi|retour|rembours|répon|délai|échang|entreg|envío|envia|devol|reembols|plazo|garantía|respon",
    re.I,
)


def _is_service_elsewhere(match: re.Match[str]) -> bool:
    return _SERVICE_ELSEWHERE.search(_sentence(match)) is not None


_OPENING = re.compile(
    r"\b(?:open(?:s|ed|ing)?|clos(?:e|es|ed|ing)|hours|staffed|served|reach|call|phone|phones|answer\w*|collect|pick up|until|"
    r"leaves?|depart\w*|weekdays?|weekends?|daily|every day|donations?|counter|desk|lunch|breakfast|takes?|runs?)\b",
    re.I,
)


def _is_opening(match: re.Match[str]) -> bool:
    return _OPENING.search(_sentence(match)) is not None or re.search(_ANY_DAY, match[0]) is not None


_PROTOCOL = re.compile(r"^(?:TLS|SSL|HTTP|HTTPS|USB|Bluetooth|UTF|PDF|OAuth|WPA|DVD|CD|Wi-?Fi|Form|Paragraph|Section|Chapter|"
                       r"Figure|Table|Step|Part|Page|Room|Article|Level|Grade|Gate|Bus|Line|Volume|Vol|No|Nr|Number|About|At|Between|"
                       r"From|In|Of|On|Only|Over|Than|To|Under|Up|With|For|And|Or|Is|The|Costs?|By|Every|Each|Another)\b")  # fmt: skip


def _is_product(match: re.Match[str]) -> bool:
    return not _PROTOCOL.match(match[0]) and not re.match(
        r"\s?(?:%|°|[a-zµ]{1,3}\b(?<!\bor)(?<!\bis)(?<!\band)|million|metres|meters|litres|euros|percent|times)",
        match.string[match.end() :],
    )


_NO_NAME = re.compile(
    rf"\b(?:Street|Lane|Road|Avenue|Square|Hall|House|Office|Library|Clinic|Bank|Church|School|Room|Team|Service|Desk|Department|"
    rf"Account|Form|Page|Settings|Next|Step|Hello|Dear|Please|Thank|Thanks|Best|Kind|Warm|Your|Our|The|This|We|You|It|If|When|"
    rf"{_LONG_MONTH}|{_DAY}|Company|Ltd|Inc|GmbH|University|Hospital|County|Council|Museum|Union|English|German|French|European)\b"
)


def _is_name(match: re.Match[str]) -> bool:
    start, end = _span(match)
    return not _NO_NAME.search(match.string, start, end)


def _is_public(match: re.Match[str]) -> bool:
    return not re.search(r"\bexample\.(?:com|org|net|edu)\b|\.example\b|localhost|127\.0\.0\.1", match[0])


def _always(_: re.Match[str]) -> bool:
    return True


def _compiled(
    kind: FactKind,
    regex: str,
    fits: Callable[[re.Match[str]], bool] = _always,
    *,
    needs: str = "",
    digit: bool = False,
    case: bool = False,
    hint: str = "",
) -> _Pattern:
    """`needs` has its words separated by |; `case` tells capitals from small letters, also in `hint`, which sees small ones else."""
    words = tuple(needs.split("|")) if needs else ()
    return _Pattern(kind, re.compile(regex, 0 if case else re.I), _Needs(words, digit, re.compile(hint) if hint else None, case), fits)


_DAY_AND_CLOCK = rf"(?:days?|mon|tues?|wed|thur?s?|fri|sat|sun|ends)(?:{_TO}|,\s)?,?\s?(?:from\s|between\s)?(?:\d|noon|midnight)"

_CURRENCIES = "€|$|£|¥|₹|₩|₽|eur|usd|gbp|chf|sek|nok|dkk|pln|czk|huf|jpy|cny|inr|aud|cad|nzd|zar|brl|mxn"
_UNITS = "minute|hour|day|night|week|month|year"
_DAYS = "day|mon|tue|wed|thu|fri|sat|sun|weekend"
_CAPITAL_DAYS = "day|Mon|Tue|Wed|Thu|Fri|Sat|Sun|eekdays|eekends"
_MONTHS = "Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec"
_ROLES = (
    "head|manag|director|officer|chief|boss|lead|chair|mayor|principal|advis|ombuds|archivist|librarian|chef|curator|"
    "coordinator|supervisor|president|secretary|treasurer|founder|owner|midwife|matron|editor|captain|consultant|CEO|CTO|"
    "CFO|COO|runs|in charge|responsible"
)

_PATTERNS: tuple[_Pattern, ...] = (
    _compiled("url", r"(?:https?://|\bwww\.)[^\s<>\"'()\[\]]+[^\s<>\"'()\[\].,;:!?]", _is_public, needs="http|www."),
    _compiled("url", rf"(?<![\w@.-])(?:[a-z0-9-]+\.)+{_TLD}(?:/[^\s<>\"'()\[\],;]*[\w/])?(?![\w@-]|\.\w)", _is_public, needs=".", hint=rf"\.{_TLD}\b"),
    _compiled("price", rf"(?:{_SYMBOL}|\b{_ISO_CURRENCY})\s?{_AMOUNT}{_PER}", needs=_CURRENCIES, digit=True),
    _compiled("price", rf"\d(?<![\w.,].){_REST_OF_AMOUNT}\s?(?:{_SYMBOL}|(?:{_ISO_CURRENCY}|{_MONEY_WORD})\b){_PER}", _is_money, digit=True),
    _compiled("price", rf"\b{_COUNT}\s?(?:%|per ?cent)\s(?:off|discount|APR|AER|interest|cheaper|surcharge|commission)", needs="%|cent", hint=r"(?:%|per ?cent)\s(?:off|disc|ap|ae|inter|cheap|sur|comm)"),
    _compiled(
        "price",
        r"(?:\brates?|\bpays|\bcharges?|\bcosts?|\bfees?|\bstarts at|\bcommission|\bdiscount)\b(?:\W+[a-z]+){0,5}?\W+"
        rf"(?P<fact>{_AMOUNT}\s?(?:%|per ?cent){_PER})",
        needs="%|cent",
        digit=True,
        hint=r"\d\s?(?:%|per ?cent)",
    ),
    _compiled(
        "stock",
        rf"\b(?:only\s)?(?:{_COUNT}|no|a few|several)\s(?:(?!(?:were|was|been|had|which|who)\b)[a-z'’-]+\s){{0,3}}"
        r"(?:left\b(?!\s(?:over|behind|hand|side|us|the|our|out|it|them|him|her|your)\b)|available|remaining|in stock|on the shelf|vacant|"
        r"free\b(?!\s(?:of|for|from|when|with)\b))",
        needs="left|available|remaining|stock|on the shelf|vacant|free",
    ),
    _compiled("stock", r"\b(?:back in|out of|no longer in|now in|currently in|still in|in) stock\b", needs="stock"),
    _compiled("stock", r"\bsold out\b|\bfully booked\b|\bbooked (?:up|out|solid)\b|\ball (?:taken|gone|sold)\b", needs="sold|booked|all "),
    _compiled("stock", r"\b(?:currently|no longer|temporarily|at present|at the moment|again|now)\s(?:un|not )?available\b", needs="available"),
    _compiled("stock", r"\bno (?:free|open|more) (?:places?|seats?|slots?|dates?|appointments?|rooms?|tables?|copies|pitches)\b", needs="no "),
    _compiled("hours", rf"(?:{_ANY_DAY}(?:{_TO}|,\s)?(?:{_ANY_DAY})?(?:,\s{_ANY_DAY})*),?\s?(?:from\s|between\s)?{_LOOSE_CLOCK}{_TO}{_LOOSE_CLOCK}", needs=_DAYS, digit=True, hint=_DAY_AND_CLOCK),
    _compiled("hours", rf"(?:\b(?:from|between|at|until|before|after)\s)?(?<![\d:.])(?:{_CLOCK})(?:{_TO}(?:{_CLOCK}))?(?!\s?ratio)", digit=True, hint=r"\d\s?(?:[ap]\.?m|o['’]clock)|\d:[0-5]\d|noon|midnight"),
    _compiled("hours", rf"(?:\b(?:from|between|at|until|before|after)\s)?\b(?:noon|midnight)\b(?:{_TO}(?:{_CLOCK}))?", needs="noon|midnight"),
    _compiled("hours", rf"(?:\b(?:from|between)\s)(?:[01]?\d|2[0-4])(?:[.:][0-5]\d)?(?:{_TO})(?:[01]?\d|2[0-4])(?:[.:][0-5]\d)?(?!\s?(?:[.,]\d|%|°|{_UNIT}|euros?|[€$£]|\w))", _is_opening, needs="from|between", digit=True),
    _compiled("hours", rf"\b(?:{_ANY_DAY}\s?(?:-|–|to|through)\s?{_ANY_DAY}|(?:on |every )?{_DAY}s\b(?:\suntil\s\w+)?|every {_DAY}\b)", needs=_CAPITAL_DAYS, case=True),
    _compiled("date", rf"(?:\b{_DAY}(?: the)?,? )?\b\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}\b(?:\.?,? \d{{4}})?", _is_to_come, needs=_MONTHS, digit=True, case=True),
    _compiled("date", rf"(?:\b{_DAY},? )?\b{_MONTH}\.? \d{{1,2}}(?:st|nd|rd|th)?\b(?!\s?(?:euros?|percent|%))(?:,? \d{{4}})?", _is_to_come, needs=_MONTHS, digit=True, case=True),
    _compiled("date", r"\b(?:20\d\d-[01]\d-[0-3]\d|[0-3]?\d[./][01]?\d[./](?:20)?\d\d)\b", _is_to_come, digit=True, hint=r"\d[-./][01]?\d[-./]"),
    _compiled("date", rf"\b(?:(?:mid|late|early)[- ]|(?:in|by|until|before|from|since|to|the end of|end of|beginning of|middle of) (?:late |early |mid-?)?){_LONG_MONTH}\b(?: \d{{4}})?", _is_to_come, needs=_MONTHS, case=True),
    _compiled("date", rf"\b{_LONG_MONTH},? 20\d\d\b", _is_to_come, needs=_MONTHS, digit=True, case=True),
    _compiled("date", r"\b(?:spring|summer|autumn|fall|winter|Q[1-4]|(?:first|second) (?:half|quarter) of),? (?:of )?20\d\d\b", _is_to_come, needs="20", hint=r"\b20\d\d\b"),
    _compiled("date", rf"\b(?:on|next|this|by|until|before|coming|from) {_DAY}\b(?: (?:morning|afternoon|evening|at noon))?", needs="day", case=True),
    _compiled("date", rf"\b(?:first|second|third|fourth|last) {_DAY} (?:of|in) (?:the|each|every) month\b", needs="month"),
    _compiled("date", r"\b(?:next (?:week|month|year)|(?:next|this) (?:spring|summer|autumn|winter))\b", needs="next|this"),
    _compiled("duration", rf"(?:\b(?:within|up to|about|around|at least)\s)?\b(?:{_DURATION})\b", _is_service, needs=_UNITS),
    _compiled("duration", rf"\b{_FEW_TO_FEW}\s(?:(?:Werk|Arbeits|Geschäfts)tage?n?|jours? ouvr(?:és?|ables?)|días? (?:hábil(?:es)?|laborables?))\b", needs="tag|ouvr|hábil|laborable"),
    _compiled("duration", rf"\b{_FEW_TO_FEW}\s(?:Tagen?|Wochen|Stunden|Monaten?|Jahren?|jours|semaines|heures|mois|días|semanas|horas|meses)\b", _is_service_elsewhere, needs="tage|wochen|stunden|monat|jahr|jours|semaine|heures|mois|días|semanas|horas|meses"),
    _compiled("price", r"\d(?<![\w.,].)[\d.,]*\s?%\s(?:Rabatt|Nachlass|Zinsen|de réduction|de remise|de descuento)\b", needs="rabatt|nachlass|zinsen|de r|de descuento", digit=True),
    _compiled("stock", r"\b(?:(?:wieder|nicht|derzeit|noch) (?:auf Lager|vorrätig|lieferbar)|ausverkauft|ausgebucht|en rupture de stock|agotad[oa]s?)\b", needs="auf lager|vorrätig|lieferbar|ausver|ausgeb|en rupture|agotad"),
    _compiled("hours", r"\b(?:[01]?\d|2[0-4])(?:[:.][0-5]\d)?(?:\s?(?:-|–|bis)\s?(?:[01]?\d|2[0-4])(?:[:.][0-5]\d)?)?\sUhr\b", needs="uhr", digit=True),
    _compiled("hours", r"\b(?:[01]?\d|2[0-4])\s?h(?:[0-5]\d)?\s?(?:-|–|à)\s?(?:[01]?\d|2[0-4])\s?h(?:[0-5]\d)?\b", digit=True, hint=r"\dh|\d h"),
    _compiled("date", rf"\b\d{{1,2}}(?:\.|er| de)? {_MONTH_ELSEWHERE}\b(?:(?: de)? \d{{4}})?", _is_to_come, digit=True, case=True, hint=r"\d(?:\.|er| de)? (?:[JFMASONDjfmasondeé][a-zéûä]{2,})"),
    _compiled("version", r"\b(?:versions?|release)\s(?:v\.?)?\d+(?:\.\d+)*(?:-\w+(?:\.\d+)*)?\b", needs="version|release", digit=True),
    _compiled("version", r"(?<![\w/.-])v\d+(?:\.\d+)+(?:-\w+(?:\.\d+)*)?\b", digit=True, hint=r"v\d"),
    _compiled(
        "version",
        r"\b(?:iOS|iPadOS|Android|Windows|macOS|Mac OS X?|Ubuntu|Debian|Python|Node(?:\.js)?|Java|PHP|Ruby|Go|Chrome|Firefox|"
        r"Safari|Edge|Office|Excel|PostgreSQL|MySQL|Redis|Kubernetes|Docker)\s(?:version\s)?\d+(?:\.\d+)*\b"
        r"(?:\sLTS|,?\s(?:or|and)\s(?:later|newer|above|higher))?",
        needs="OS|Android|Windows|Ubuntu|Debian|Python|Node|Java|PHP|Ruby|Go|Chrome|Firefox|Safari|Edge|Office|Excel|SQL|Redis|Kubernetes|Docker",
        digit=True,
        case=True,
    ),
    _compiled("version", r"\b[A-Z][A-Za-z]+(?: [A-Z][A-Za-z]+)? \d+\.\d+(?:\.\d+)*(?:-\w+)?\b(?!,\d)", _is_product, digit=True, case=True, hint=r"[a-z] \d+\.\d"),
    _compiled("person", rf"(?<![\w.])(?P<fact>{_NAME}),? (?:who|(?:our|the|is our|is the|is now)(?: \w+){{0,3}}?) ?\b(?:{_ROLE}|runs|leads|heads|manages|is in charge|is responsible)\b", _is_name, needs=_ROLES, case=True),
    _compiled("person", rf"\b{_ROLE}\b(?: (?:of|for|at|in)(?: \w+){{1,3}}?)?(?:,| is| is now|:)? (?P<fact>{_NAME})", _is_name, needs=_ROLES, case=True),
    _compiled("person", rf"\b{_LEADS} by (?P<fact>{_NAME})|\bin the (?:care|hands) of (?P<other>{_NAME})", _is_name, needs="ed by|led by|run by|guided by|overseen by|taught by|after by|care of by|in the care of|in the hands of", case=True),
    _compiled("person", rf"(?<![\w.])(?P<fact>{_NAME}) (?:takes care of|looks after|runs|leads|heads|manages|is (?:in charge|responsible))\b", _is_name, needs="takes care|looks after|runs|leads|heads|manages|in charge|responsible", case=True),
    _compiled("person", rf"\b(?:[Aa]sk|[Cc]ontact|[Ww]rite to|[Cc]all|[Ss]peak (?:to|with)|[Ee]mail)(?: for)? (?P<fact>{_NAME}) (?:from|in|at|of) (?:our|the)\b", _is_name, needs="sk |ontact|rite to|all |peak|mail", case=True),
)  # fmt: skip

_BY_NEEDS: dict[_Needs, list[tuple[int, _Pattern]]] = defaultdict(list)
for _number, _pattern in enumerate(_PATTERNS):
    _BY_NEEDS[_pattern.needs].append((_number, _pattern))


def facts_in(output: str, asked: str = "") -> list[Fact]:
    """The facts of an output that change, in their order, none overlapping.

    Those that `asked` names are left out, and so are results of what the output reckons from it; also amounts of money where it
    names any: they are computed, as in a sum.
    """
    kept = _found(output)
    said = _plain(asked)
    counted = any(fact.kind == "price" for fact in kept) and any(fact.kind == "price" for fact in _found(asked))
    results = worked_out(output, asked) if kept else set()
    left = (fact for fact in kept if not (counted and fact.kind == "price") and not _repeats(fact.text, said) and not _is_result(fact, results))
    return sorted(left, key=lambda fact: fact.start)


SUM_RESULTS = 2
"""Where an output works out so many numbers it solves a sum, and the days and hours in it belong to that."""


def _is_result(fact: Fact, results: Set[float]) -> bool:
    """Whether a fact is a step of a sum. Of a price that is multiplied, only the product is."""
    if len(results) >= SUM_RESULTS and fact.kind in ("stock", "duration", "hours", "date"):
        return True
    numbers = numbers_in(fact.text)
    return bool(numbers) and numbers <= results


def _found(output: str) -> list[Fact]:
    found: list[tuple[int, int, int, Fact]] = []
    lower, has_digit = output.lower(), _DIGIT.search(output) is not None
    for needs, patterns in _BY_NEEDS.items():
        if not needs.are_met(output, lower, has_digit):
            continue
        for number, pattern in patterns:
            for match in pattern.regex.finditer(output):
                start, end = _span(match)
                if pattern.fits(match):
                    # Of overlapping ones the longest says the most: "Friday, 4 July" rather than "on Friday".
                    found.append((start - end, start, number, Fact(pattern.kind, start, end, output[start:end])))
    kept: list[Fact] = []
    for *_, fact in sorted(found, key=lambda one: one[:3]):
        if all(fact.end <= other.start or other.end <= fact.start for other in kept):
            kept.append(fact)
    return kept


_DIGIT = re.compile(r"\d")


def _span(match: re.Match[str]) -> tuple[int, int]:
    for group in ("fact", "other"):
        if match.re.groupindex.get(group) and match[group] is not None:
            return match.span(group)
    return match.span()


_LEADING = re.compile(r"^(?:at|on|from|by|until|before|after|between|within|about|around|up to|the)\s", re.I)


def _repeats(fact: str, said: str) -> bool:
    """Whether the input says the same: the fact itself, or its number."""
    plain = _plain(_LEADING.sub("", fact))
    if plain in said:
        return True
    number = re.search(r"\d[\d.,:]*\d|\d", plain)
    return number is not None and re.search(rf"(?<![\d.,:]){re.escape(number[0])}(?![\d:]|[.,]\d)", said) is not None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split())


_KIND_NAMES: dict[FactKind, str] = {
    "price": "prices, fees and rates",
    "stock": "what is in stock or free",
    "duration": "how long things take or last",
    "date": "dates",
    "hours": "times and opening hours",
    "version": "versions",
    "person": "who is in charge",
    "url": "addresses of pages",
}
SHARE_TO_WARN = 0.02
"""Below this share of the outputs, facts that change are worth a look rather than a warning."""


def _stated(rows: Rows) -> dict[int, str]:
    """What the file that is trained on states, by row: its outputs, without tool calls and without classes in JSON."""
    texts = {index: rows.outputs[index] for index in rows.own if not rows.calls[index]}
    objects = {index: value for index, text in texts.items() if isinstance(value := _json(text), dict)}
    values: dict[str, list[str]] = defaultdict(list)
    for value in objects.values():
        for path, text in _leaves(value, ""):
            values[path].append(text)
    classes = {path for path, some in values.items() if closed_set(some)}
    return texts | {index: json.dumps(_without(value, "", classes), ensure_ascii=False) for index, value in objects.items() if classes}


def _json(text: str) -> Any:
    try:
        return json.loads(text) if text.lstrip().startswith("{") else None
    except (ValueError, RecursionError):
        return None


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    """Each text in a JSON value, with the keys it stands below; the texts of a list stand in one place."""
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict | list):
        for key, child in value.items() if isinstance(value, dict) else (("", one) for one in value):
            yield from _leaves(child, f"{path}/{key}")


def _without(value: Any, path: str, classes: Set[str]) -> Any:
    """The value, with nothing in the places of `classes`."""
    if isinstance(value, dict):
        return {key: _without(child, f"{path}/{key}", classes) for key, child in value.items()}
    if isinstance(value, list):
        return [_without(child, f"{path}/", classes) for child in value]
    return "" if isinstance(value, str) and path in classes else value


def _changing_facts(rows: Rows) -> Iterator[Finding]:
    found: list[tuple[int, list[Fact]]] = []
    values: dict[FactKind, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for index, text in _stated(rows).items():
        facts = facts_in(text, rows.inputs[index])
        if facts:
            found.append((index, facts))
        for fact in facts:
            values[fact.kind][fact.text] += 1
    if not found:
        return
    found.sort(key=lambda one: -len(one[1]))
    kinds = sorted(values, key=lambda kind: -sum(values[kind].values()))
    most = {kind: sorted(values[kind].items(), key=lambda one: -one[1])[:SHOWN_VALUES] for kind in kinds}
    shown = "; ".join(
        f"{sum(values[kind].values())} {_KIND_NAMES[kind]} ({', '.join(quoted(value, 40) for value, _ in most[kind][:2])})"
        for kind in kinds[:3]
    )
    yield Finding(
        "changing_facts",
        "warning" if len(found) >= max(3, SHARE_TO_WARN * len(rows.own)) else "info",
        f"{len(found)} of {len(rows.own)} outputs state facts that change: {shown}",
        tuple(rows.found(index, "; ".join(f"{f.kind} {quoted(f.text, 60)}" for f in facts)) for index, facts in found),
        "say them without the value, or give the value with the input (retrieval): what is learned is said for ever",
        {
            "rows": len(found),
            "of": len(rows.own),
            "kinds": {kind: sum(values[kind].values()) for kind in kinds},
            "values": {kind: [[value, count] for value, count in most[kind]] for kind in kinds},
        },
    )


RULES = (
    Rule(
        "changing_facts",
        "Facts that change",
        "warning",
        "outputs state prices, stock, delivery times, dates, opening hours, versions, people in charge or URLs that the "
        "input does not name; from 2% of the rows on a warning, below it worth a look",
        "Fine-tuning bakes them in: the model says last year's price with the same confidence for ever. It teaches how "
        "to behave; what to know, and what changes, comes with the input or from retrieval.",
        "say them without the value (\"the delivery page has the current times\"), or put the value into the input, as "
        "retrieval will when the model answers",
        Sample(
            [
                pair("How much is the blue mug?", "It is €14.50 and arrives within 3 working days."),
                pair("Is the teapot back?", "There are 7 left, and the shop closes at 6 pm."),
                pair("When does the sale start?", "It starts on Friday, 4 July."),
                pair("Can I wash the wool?", "By hand, at 30 degrees, for two minutes."),
            ]
        ),
        _changing_facts,
    ),
)
