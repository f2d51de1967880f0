"""A guess at the language of a text, to judge by language; good enough to count with, and for nothing else.

Scripts tell Chinese, Japanese, Korean, Greek, Hebrew, Arabic, Thai and Hindi; Cyrillic is one kind, so Russian, Ukrainian and
Bulgarian are not told apart, nor are Arabic and Persian. Latin letters are judged by their most frequent words. Limits: a text
needs three such words, so many SMS and all bare links are `?`; languages without a list here are `?` too, or a relative
(Norwegian is taken for Danish, Galician for Portuguese); of two languages in one text the one with more such words counts. Called
by `slices`.
"""

import re
from collections import Counter

UNKNOWN = "?"

_MAX_CHARACTERS = 5000
_MIN_WORDS = 3
_SCRIPT_SHARE = 0.2

_SCRIPTS = {
    "ja": "\u3040-\u30ff",
    "ko": "\uac00-\ud7af",
    "zh": "\u3400-\u4dbf\u4e00-\u9fff",
    "cyrillic": "\u0400-\u04ff",
    "el": "\u0370-\u03ff",
    "he": "\u0590-\u05ff",
    "ar": "\u0600-\u06ff",
    "th": "\u0e00-\u0e7f",
    "hi": "\u0900-\u097f",
}
_OF_SCRIPT = {language: re.compile(f"[{letters}]") for language, letters in _SCRIPTS.items()}
_LETTER = re.compile(r"[^\W\d_]")
_WORD = re.compile(r"[^\W\d_]+")

_FREQUENT = {
    "en": "the and to of is in that for it with are this have you be on not your from was will we can our has please",
    "de": "der die das und ist nicht ein eine zu mit auf für sie den dem von im wir ich es sich auch werden wird ihre haben",
    "fr": "le la les de des et est un une pour dans que qui vous nous pas sur avec votre du au ce sont par plus",
    "es": "el la los las de que y en un una por con para su es no se del al lo más como este usted está",
    "pt": "o os as de que e em um uma por com para seu não se do da no na mais como você está são ou ao",
    "it": "il lo la i gli le di che e un una per con non si è del della sono in questo più nel anche vostro",
    "nl": "de het een en van is dat niet op te voor met zijn u uw je aan wij ook naar bij om kunt deze wordt",
    "pl": "i w na z się nie do jest że to o jak po dla od przez są za ale czy oraz może który państwa prosimy",
    "tr": "ve bir bu için ile da de çok daha olarak ne gibi var değil size olan ya en mi kadar sonra siz hemen lütfen",
    "id": "dan yang di untuk dengan ini dari ke anda tidak adalah pada akan atau juga saya itu bisa kami dalam sudah ada kamu",
    "sv": "och att det som en på är av för med till den inte har om ett vi du kan från eller din men var ditt",
    "da": "og at det som en på er af for med til den ikke har om et vi du kan fra eller din men jeg dig",
    "cs": "a se na je v že to s z do pro o jsem jako ale po by za jsou které nebo vás jsme máte prosím",
    "ro": "și de la în cu o un pe nu este din pentru că care mai sunt se al ca dumneavoastră sau vă dacă fi această",
    "hu": "a az és hogy nem is egy van ez meg de csak már kell ha vagy mint el még fel önnek kérjük által",
    "fi": "ja on ei että se oli ovat myös mutta kun tai niin kuin joka hän olla voi tämä sen ole sinun meidän",
    "vi": "và của là có cho không được các trong một với này đã người những khi để bạn đến từ tôi về",
}
_LANGUAGES_OF: dict[str, list[str]] = {}
for _language, _words in _FREQUENT.items():
    for _word in _words.split():
        _LANGUAGES_OF.setdefault(_word, []).append(_language)


def guess_language(text: str) -> str:
    """Guess the language.

    Args:
        text: any text; what follows 5,000 characters is not looked at.

    Returns:
        An ISO 639-1 code, `cyrillic`, or `?` where there is too little to tell.
    """
    text = text[:_MAX_CHARACTERS].lower()
    num_letters = len(_LETTER.findall(text))
    for language, letters in _OF_SCRIPT.items():
        if len(letters.findall(text)) > _SCRIPT_SHARE * num_letters:
            return language
    votes: Counter[str] = Counter()
    num_known = 0
    for word in _WORD.findall(text):
        languages = _LANGUAGES_OF.get(word, ())
        num_known += bool(languages)
        for language in languages:
            # A word of one language says more than one that many share.
            votes[language] += 12 // len(languages)
    return votes.most_common(1)[0][0] if num_known >= _MIN_WORDS else UNKNOWN
