"""How easily can a de-identified chest radiograph be matched back to its report by a vision-language model?

The core of Linkage Explorer. Data goes one way: cohort -> features -> heads -> counts -> curves. It knows no Streamlit.
"""

__version__ = "0.1.0"
