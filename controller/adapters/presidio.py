"""Presidio as one more recogniser of personal data; the only module that imports it."""

from __future__ import annotations

from collections.abc import Iterator

import spacy
from presidio_analyzer import AnalyzerEngine
from presidio_analyzer.nlp_engine import NerModelConfiguration, SpacyNlpEngine
from presidio_analyzer.predefined_recognizers import EmailRecognizer
from tldextract import TLDExtract

from controller.core.shadow.recognisers import Found, Kind

KINDS = {
    "EMAIL_ADDRESS": Kind.EMAIL,
    "PHONE_NUMBER": Kind.PHONE,
    "CREDIT_CARD": Kind.CARD,
    "IBAN_CODE": Kind.IBAN,
    "IP_ADDRESS": Kind.IP,
    "US_SSN": Kind.NATIONAL_ID,
    "US_ITIN": Kind.NATIONAL_ID,
    "UK_NHS": Kind.NATIONAL_ID,
}
"""Presidio's entities under our names; others keep theirs, as in ``<PERSON_1>``."""

LEFT_ALONE = frozenset({"URL", "DATE_TIME", "NRP"})
"""What Presidio finds and answers are full of: taken out, the two could not be compared any more."""

LEAST_SCORE = 0.4
"""Of Presidio's confidence, 0 to 1. Patterns that any number fits come with less."""

_NO_NAMES = (
    "CARDINAL", "EVENT", "LANGUAGE", "LAW", "MONEY", "ORDINAL", "PERCENT", "PRODUCT", "QUANTITY", "WORK_OF_ART",
)  # fmt: skip

_CHUNK = 100_000
"""Characters analysed at once: spaCy refuses texts of more than a million."""
_OVERLAP = 200


class PresidioRecogniser:
    """See ``Recogniser``.

    Args:
        model: An installed spaCy model, such as ``en_core_web_lg``, which finds names of people and places too. Without one,
            Presidio's patterns and check digits work alone.

    Raises:
        OSError: No such model is installed. None is downloaded.
    """

    def __init__(self, model: str | None = None) -> None:
        """See the class."""
        pipeline = spacy.load(model) if model else spacy.blank("en")
        self._analyzer = AnalyzerEngine(nlp_engine=_Loaded(pipeline))
        self._analyzer.registry.remove_recognizer("EmailRecognizer")
        self._analyzer.registry.add_recognizer(_OfflineEmail())
        self._entities = [
            each for each in self._analyzer.get_supported_entities("en") if each not in LEFT_ALONE
        ]

    def __call__(self, text: str) -> Iterator[Found]:
        """What Presidio finds."""
        for offset in range(0, len(text), _CHUNK):
            part = text[max(0, offset - _OVERLAP) : offset + _CHUNK]
            start = max(0, offset - _OVERLAP)
            for one in self._analyzer.analyze(
                part, language="en", entities=self._entities, score_threshold=LEAST_SCORE
            ):
                yield Found(start + one.start, start + one.end, KINDS.get(one.entity_type, one.entity_type))


class _Loaded(SpacyNlpEngine):
    """A pipeline that is loaded already: Presidio's own engine would fetch a missing model from the internet."""

    def __init__(self, pipeline: spacy.language.Language) -> None:
        super().__init__(ner_model_configuration=NerModelConfiguration(labels_to_ignore=_NO_NAMES))
        self.nlp = {"en": pipeline}  # type: ignore[assignment]  # Presidio declares what it begins with


class _OfflineEmail(EmailRecognizer):
    """Presidio's own would fetch the list of top-level domains from the internet; the library carries one."""

    _extract = TLDExtract(suffix_list_urls=(), cache_dir=None)

    def validate_result(self, pattern_text: str) -> bool:
        return bool(self._extract(pattern_text).fqdn)
