"""Linear models of scikit-learn behind the preparation that tables and texts need."""

from typing import Any

__all__ = ["scaled", "worded"]


def scaled(estimator: Any) -> Any:
    """Linear model with missing values filled, numbers scaled and categories as indicators."""
    from sklearn.compose import make_column_selector, make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers = make_pipeline(SimpleImputer(keep_empty_features=True), StandardScaler())
    columns = make_column_transformer(
        (numbers, make_column_selector(dtype_include="number")),
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_include="category")),
    )
    return make_pipeline(columns, estimator)


def worded(estimator: Any) -> Any:
    """Linear model on TF-IDF weights of words and of pairs of neighbouring words."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    return make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), estimator)
