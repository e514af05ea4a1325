"""Registry of the objective's terms. A new term is a file in this folder and one line here."""

from jaxstyle.style.terms import content, histogram, style, temporal, variation
from jaxstyle.style.terms.base import Term, View

TERMS: dict[str, Term] = {
    term.name: term for term in (content.TERM, style.TERM, variation.TERM, histogram.TERM, temporal.TERM)
}
"""Every term by name."""

__all__ = ["TERMS", "Term", "View"]
