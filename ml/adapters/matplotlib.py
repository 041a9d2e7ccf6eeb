"""Pictures of predictions against labels, drawn without a screen and without global state."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import precision_recall_curve, roc_curve

from features.definitions import Float64Array, Int64Array
from ml.evaluation.metrics import calibration

SIZE_INCHES = (6.0, 5.0)


class Plots:
    """Three pictures; every learner is a line in each. The grey line is a score without skill."""

    def draw(self, labels: Int64Array, scores: Mapping[str, Float64Array], *, folder: Path) -> None:
        """The folder is made when it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        figure, axes = _axes("FPR", "TPR")
        axes.plot([0, 1], [0, 1], color="0.8")
        for name, s in scores.items():
            fpr, tpr, _ = roc_curve(labels, s)
            axes.plot(fpr, tpr, label=name)
        _save(figure, axes, folder / "roc.png")
        figure, axes = _axes("Recall", "Precision")
        axes.axhline(float(labels.mean()), color="0.8")
        for name, s in scores.items():
            precision, recall, _ = precision_recall_curve(labels, s)
            axes.plot(recall, precision, label=name)
        _save(figure, axes, folder / "precision_recall.png")
        figure, axes = _axes("Predicted", "Observed")
        axes.plot([0, 1], [0, 1], color="0.8")
        for name, s in scores.items():
            table = calibration(labels, s)
            axes.plot([t[0] for t in table], [t[1] for t in table], marker="o", label=name)
        _save(figure, axes, folder / "calibration.png")


def _axes(x: str, y: str) -> tuple[Figure, Any]:
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlabel=x, ylabel=y)
    return figure, axes


def _save(figure: Figure, axes: Any, file: Path) -> None:
    axes.legend()
    figure.savefig(file, dpi=100)
