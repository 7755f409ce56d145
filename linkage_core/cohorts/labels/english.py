"""Is a report English? The rules know no other language, and would find nothing wrong in a Spanish one.

The check counts words that only English has (function words such as "the", "of", "with", and a few of every chest
report, such as "lungs", "heart"), and words that only its neighbours have (function words of thirteen languages that
are written in Latin letters). A report is English where the first are at least a tenth of its words and more than the
second; it is another language where the second are more, where a third of its letters are not Latin, or where it has at
least eight words and none of the first. What is too short to say ("Normal.") is neither.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

ENGLISH = frozenset(
    # function words that the others do not share ("no", "in", "is", "a", "of", "was", "or", "on" are theirs too)
    "the and are with there without within not has have been were this that these which from for by at to may could "
    "cannot seen again than since but also other be it "
    # and words of reports
    "heart lungs lung chest clear size effusion effusions disease process bones enlarged small right left mild mildly "
    "acute unremarkable unchanged opacity opacities abnormality evidence limits borders silhouette normal "
    "findings impression rib tube line lower upper lobe base bases view views pulmonary free large new both sides slight "
    "catheter wires fresh pathology scarring thickening widening shadowing device lead stable tip changes spine present "
    "middle field increasing like collapse suspected".split()
)
OTHERS = {
    "German": "der die das dem den des und ist sind kein keine keinen nicht mit ohne im am auf bei zur zum ein eine einer "
    "beidseits links rechts lunge herz unauffällig nachweis",
    "French": "le la les des du une est sont pas sans avec dans aux et sur au coeur cœur poumons poumon gauche droit "
    "droite absence pulmonaire cardiaque pleural épanchement",
    "Spanish": "el la los las del una con sin se es en y por al derecho derecha izquierdo izquierda pulmón pulmones "
    "corazón silueta cardíaca cardiaca tórax torax aumentado conservada derrame pulmonar ni signos",
    "Portuguese": "o os da das do dos uma com sem não nao em ao ou e direito direita esquerdo esquerda pulmões coração "
    "área area cardíaca derrame pulmonar sinais",
    "Italian": "il lo gli della delle dei del di una con senza non nel nella ed polmoni cuore destra sinistra destro "
    "sinistro versamento cardiaca limiti assenza",
    "Catalan": "els les amb sense dels pulmó pulmons esquerre dret i",
    "Dutch": "het een van en geen niet met zonder op bij links rechts longen hart voor zijn hartschaduw",
    "Danish, Norwegian": "og ikke ingen med uten uden av af er på hjerte lunger lunge venstre høyre højre",
    "Swedish": "och inte inga ingen med utan av är på hjärta lungor vänster höger",
    "Polish": "i w z na bez nie się oraz płuca płuc serca prawej lewej zmian",
    "Czech": "a v bez na je jsou se plíce srdce vpravo vlevo nález",
    "Turkish": "ve bir ile yok olarak izlenmedi kalp akciğer sağ sol normaldir",
    "Romanian": "și si fără fara cu în din nu este cord pulmonar dreapta stânga stanga",
}
"""A language -> its words; those that are English too, or stand in English reports, are taken out below."""
_ALSO_ENGLISH = frozenset(
    "a i o e y is in on or of no as an at to was so me he we us am die den des al en et or do die sol plate area ad "
    "absence pleural pulmonary ou em del cord di da la lo le du de er si op van os".split()
)
OTHER_WORDS = frozenset(word for words in OTHERS.values() for word in words.split()) - ENGLISH - _ALSO_ENGLISH
LEAST_SHARE, LEAST_WORDS = 0.1, 8
_WORD = re.compile(r"[^\W\d_]+")


def is_english(report: str) -> bool | None:
    """True, False, or None where the text is too short to say.

    >>> is_english("The lungs are clear."), is_english("Sin derrame pleural. Silueta cardíaca normal.")
    (True, False)
    >>> is_english("Normal.") is None
    True
    """
    words = _WORD.findall(unicodedata.normalize("NFC", report).lower())
    letters = "".join(words)
    if letters and sum(not _latin(letter) for letter in letters) > len(letters) / 3:
        return False
    english = sum(word in ENGLISH for word in words)
    other = sum(word in OTHER_WORDS for word in words)
    if other > english:
        return False
    if english > other and english >= LEAST_SHARE * len(words) and len(words) >= 2:
        return True
    return False if len(words) >= LEAST_WORDS else None


def foreign(reports: Iterable[str]) -> list[bool]:
    """For each report whether the rules must not read it: it is of another language, or too short to say where most of
    those that can be told are."""
    said = [is_english(report) for report in reports]
    told = [one for one in said if one is not None]
    mostly = bool(told) and sum(told) * 2 < len(told)
    return [mostly if one is None else not one for one in said]


def _latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN")
