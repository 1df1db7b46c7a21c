"""The page's plots."""

from t5x_like.scaling.report.analysis import Analysis
from t5x_like.scaling.report.plots.comparison import comparisons
from t5x_like.scaling.report.plots.curves import downstream, envelopes, progress, residuals
from t5x_like.scaling.report.plots.isoflop import isoflops, optima
from t5x_like.scaling.report.plots.traces import Hover, Plot
from t5x_like.scaling.report.plots.variants import rates, shapes, sizes, variants


def all_plots(analysis: Analysis) -> list[Plot]:
    """Makes every plot that the sweep has data for, in the order of the page."""
    hover = Hover(analysis)
    return [
        *comparisons(analysis),
        *isoflops(analysis, hover),
        *optima(analysis),
        *variants(analysis),
        *shapes(analysis, hover),
        *sizes(analysis, hover),
        *progress(analysis, hover),
        *rates(analysis, hover),
        *downstream(analysis, hover),
        *envelopes(analysis, hover),
        *residuals(analysis, hover),
    ]
